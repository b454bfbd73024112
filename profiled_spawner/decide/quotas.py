"""Which quotas a server counts towards, and whether it fits."""

from __future__ import annotations

from ..document.model import Document, Quota
from .matching import Subject, fits_person

__all__ = ["find_quotas"]


def find_quotas(document: Document, subject: Subject) -> tuple[Quota, ...]:
    """Returns the quotas that cover this person at this moment; the image has no say."""
    return tuple([quota for quota in document.quotas if fits_person(quota, subject)])
