"""A ConfigMap or a file in; the documents that one start is given out.

Every start reads anew, and shares its request with the starts beside it. A text that has not changed is not parsed
again. If nothing valid can be read, the last good document serves, also after a restart of the hub. It does not know
who starts, or what a document says. Begin with `cache`.
"""
