"""Reads documents: in goes a ConfigMap, a file or a label selector, out comes the document that one start is given.

Every start gets the current document. Starts share requests, and a text that has not changed is not parsed again. If
there is no valid document, the last good one is used, also after a restart of the hub. The package is independent of
who starts a server, and of what a document says. Begin with `cache`.
"""
