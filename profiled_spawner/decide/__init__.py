"""A document and a subject in; what the subject gets, what it may choose, and why, out.

Pure: the same input always gives the same result. It does not know where the document came from, or what a pod looks
like. Begin with `matching`, then `merging`.
"""
