"""Mutation testing: a mutant is the package with one small fault; a test that fails on it has killed it.

What can be changed, and into what, are mutmut's operators. Its own runner leaves out what stands outside functions
(tables, patterns, the fields of models) and knows a mutant by its number, which an edit moves; so `finding` applies the
operators to all of a module, `listing` reads and writes lists of mutants that people can read, and `running` runs them.
"""
