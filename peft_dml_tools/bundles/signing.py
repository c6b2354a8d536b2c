# SPDX-License-Identifier: Apache-2.0
"""Keys and signatures of bundles and adapters, in minisign's format; the vehicle only checks them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.core.signature import SUFFIX, read_small, signature_library

if TYPE_CHECKING:
    from minisign import PublicKey


def make_keys(secret: Path) -> PublicKey:
    """Write a secret key for its owner only, and its public one next to it (`.pub`). Raises ConfigError: one exists."""
    pair = signature_library().KeyPair.generate()
    public: PublicKey = pair.public_key
    for path, content, mode in (
        (secret, bytes(pair.secret_key), 0o600),
        (secret.with_suffix(".pub"), bytes(public), 0o644),
    ):
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            raise ConfigError(f"{path} exists; keys are not overwritten; fix: take another name") from None
        with os.fdopen(file, "wb") as out:
            out.write(content.rstrip(b"\n") + b"\n")
    return public


def sign(file: Path, secret: Path, comment: str = "") -> Path:
    """Write the signature of a file next to it, and return its path.

    Raises ConfigError: there is no such key, or the comment has line breaks.

    Args:
        file: What is signed.
        secret: Secret key without password, as `make_keys` or `minisign -G -W` writes it.
        comment: Signed as well; the time when empty.
    """
    library = signature_library()
    if not secret.is_file():
        raise ConfigError(f"no secret key {secret}; fix: make one: peft-dml bundle keygen {secret}")
    try:
        key = library.SecretKey.from_bytes(read_small(secret))
        comment = comment or f"timestamp:{int(time.time())}\tfile:{file.name}"
        signature = key.sign(file.read_bytes(), trusted_comment=comment)
        # The checksum of a key without password is not looked at before: a damaged key makes a signature of nobody.
        key.get_public_key().verify(file.read_bytes(), signature)
    except library.Error as error:
        raise ConfigError(
            f"{secret} cannot sign: {error}; fix: give a secret key without password; with a password, sign with"
            f" minisign itself: minisign -S -m {file}"
        ) from error
    out = file.with_name(file.name + SUFFIX)
    out.write_bytes(bytes(signature) + b"\n")
    return out
