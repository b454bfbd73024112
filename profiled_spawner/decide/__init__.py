"""Decides what a server gets, which sizes its user may choose, and why. Input: a document and a subject.

Pure functions: the same input always gives the same result. Nothing here depends on the
source of the document, or on the pod. Begin with `matching`, then read `merging`.
"""
