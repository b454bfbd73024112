"""An oracle for teams: random main documents and documents of teams, and what a start may have of them.

`world` makes them up, `answer` says from the specification what may be had, as plainly as can be, and `runner` compares
that with the package. Neither `world` nor `answer` shares code with the package.
"""
