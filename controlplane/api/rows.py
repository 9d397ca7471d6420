"""Lists of which an odd row stops no other."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from rest_framework import serializers

from controlplane.kernel.stored import ODD
from controlplane.passes.words import odd_words, traceback_words

log = logging.getLogger(__name__)


class EachByItself(serializers.ListSerializer[Any]):
    """A page of a list. A row whose stored values are odd is left out of it and named in `unreadable`, a sentence for
    each, which `KeysetPagination` answers beside the items."""

    unreadable: Sequence[str] = ()

    @property
    def data(self) -> Any:
        """As the framework's, each row by itself."""
        if not hasattr(self, "_data"):
            self._data = self._readable()
        return super().data

    def _readable(self) -> list[Any]:
        assert self.child is not None
        found, unreadable = [], []
        for row in self.instance or ():
            try:
                found.append(self.child.to_representation(row))
            except ODD as error:
                what = f"{row._meta.verbose_name} {row}"
                log.warning("api.row_odd row=%s\n%s", what, traceback_words(error))
                unreadable.append(odd_words(what, error))
        self.unreadable = unreadable
        return found
