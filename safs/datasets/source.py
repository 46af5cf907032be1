"""Official files of a data set: where they lie, whether they are what they should be.

Files are looked for in torchvision's layout below the data directory, then directly in it, and
their MD5 sums compared with a table. What is missing is downloaded by torchvision where there is a
network.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safs.errors import SafsError
from safs.files import read_bytes

DEFAULT_DIRECTORY = Path("data")
MAX_BYTES = 2**27
"""Of a file, packed or not; MNIST's training images have 47 million bytes."""

Download = Callable[[Path], object]


@dataclass(frozen=True)
class OfficialFiles:
    """The files of a data set and their checksums.

    Attributes:
        folder: where the files lie, below the data directory.
        files: name of each file to the MD5 sums it may have. A file may also lie there compressed
            as ``<name>.gz``; then the sum of either the compressed or the unpacked bytes counts,
            so that a copy compressed anew is accepted for its content.
        needs: what to tell people to put into the folder.
        download: fetches all files into a data directory; None where nobody offers them.
    """

    folder: str
    files: Mapping[str, tuple[str, ...]]
    needs: str
    download: Download | None = None

    def read(self, name: str, directory: Path | None) -> bytes:
        """The verified content of one file, unpacked.

        Args:
            name: a key of ``files``.
            directory: the data directory; None means ``data`` in the current one.

        Raises:
            SafsError: the file is missing and cannot be downloaded, or its checksum is wrong.
        """
        base = directory or DEFAULT_DIRECTORY
        path = self.find(name, base)
        if path is None:
            self._fetch(base)
            path = self.find(name, base)
        if path is None:
            raise SafsError(self._missing(base, f"{name} is not there"))
        return self._verified(name, path)

    def find(self, name: str, base: Path) -> Path | None:
        """Where a file lies: in the folder or directly in the data directory, packed or not."""
        places = (base / self.folder, base)
        paths = [place / file for place in places for file in (name, f"{name}.gz")]
        return next((path for path in paths if path.is_file()), None)

    def all_in(self, base: Path) -> bool:
        """Whether every file lies in a data directory, unread."""
        return all(self.find(name, base) for name in self.files)

    def _verified(self, name: str, path: Path) -> bytes:
        raw = content = read_bytes(path, MAX_BYTES)
        if path.suffix == ".gz":
            try:
                with gzip.open(io.BytesIO(raw)) as file:
                    content = file.read(MAX_BYTES + 1)
            except (OSError, EOFError, zlib.error) as error:
                raise SafsError(f"{path}: not a gzip file ({error})") from None
            if len(content) > MAX_BYTES:
                raise SafsError(f"{path}: unpacks to more than {MAX_BYTES} bytes")
        sums = {hashlib.md5(data, usedforsecurity=False).hexdigest() for data in (raw, content)}
        if not sums & set(self.files[name]):
            expected = " or ".join(self.files[name])
            raise SafsError(
                f"{path}: MD5 sum {' / '.join(sorted(sums))}, expected {expected}; "
                "remove the file to have it downloaded, or put the official one there"
            )
        return content

    def _fetch(self, base: Path) -> None:
        """Download into a folder beside, then move file by file what is not there yet."""
        if self.download is None:
            raise SafsError(self._missing(base, "nobody offers them for download"))
        try:
            with _beside(base) as fresh:
                self.download(fresh)
                for name in self.files:
                    found = self.find(name, fresh)
                    if found is not None and self.find(name, base) is None:
                        self._verified(name, found)
                        (base / self.folder).mkdir(parents=True, exist_ok=True)
                        found.replace(base / self.folder / found.name)
        except SafsError:
            raise
        except Exception as error:  # of any kind: torchvision's, the network's, the disk's
            reason = " ".join(str(error).split()) or type(error).__name__
            raise SafsError(
                self._missing(base, f"the download failed: {_shortened(reason)}")
            ) from None

    def _missing(self, base: Path, reason: str) -> str:
        return f"missing data: put {self.needs} into {base / self.folder} ({reason})"


@contextmanager
def _beside(base: Path) -> Iterator[Path]:
    """A temporary folder on the disk of ``base``, which is not left behind empty."""
    base.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".download-", dir=base))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not any(base.iterdir()):
            base.rmdir()


def _shortened(reason: str, limit: int = 120) -> str:
    return reason if len(reason) <= limit else f"{reason[:limit]}..."


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary path that becomes ``target`` in one step if the block ends well."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
