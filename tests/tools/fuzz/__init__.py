"""A coverage-guided fuzzer of whatever reads what others wrote: ``python -m fuzz``.

`targets` says what must hold of any input, `seeds` what to begin with. `campaign` gives each target its time in a
process of its own (`worker`), and lets what that finds count only if a clean process finds it too (`replay`).
"""
