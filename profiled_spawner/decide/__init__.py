"""Decides what a server gets, which sizes its user may choose, and why. Input: a document and a subject.

Pure functions: the same input always gives the same result. They do not know where the document came from, or what a
pod looks like. Begin with `matching`, then read `merging`.
"""
