# SPDX-License-Identifier: Apache-2.0
"""Detached Ed25519 signatures in the format of minisign, so that either tool verifies what the other signed.

A public key is one line `RW…`; a signature is `<file>.minisig` beside its file. The signature of a bundle's manifest
covers the bundle, since the manifest holds the sha256 of every other file.
Format: https://jedisct1.github.io/minisign/#signature-format
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from peft_dml_ros.core.errors import BundleError, ConfigError

SUFFIX: Final = ".minisig"
"""Ending of a signature's file."""

_ALGORITHM, _PLAIN, _HASHED = b"Ed", b"Ed", b"ED"
_TRUSTED: Final = "trusted comment: "
_UNENCRYPTED: Final = b"\0\0"
_CHECKSUM: Final = b"B2"
_LARGEST: Final = 16_384
"""Keys and signatures are a few hundred bytes: no more is read of what claims to be one."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Who is trusted.

    Attributes:
        key_id: Eight bytes that tell keys apart.
        raw: Thirty-two bytes.
    """

    key_id: bytes
    raw: bytes

    @property
    def text(self) -> str:
        """The one line that `trusted_key` takes."""
        return base64.b64encode(_ALGORITHM + self.key_id + self.raw).decode()


def public_key(text_or_file: str | Path) -> PublicKey:
    """A public key, given as its line `RW…` or as the file that holds it.

    Raises:
        ConfigError: it is neither.
    """
    text = str(text_or_file).strip()
    path = Path(text).expanduser()
    if len(text) < 256 and path.is_file():
        text = _lines(path)[-1]
    raw = _decoded(text, "public key")
    if len(raw) != 42 or raw[:2] != _ALGORITHM:
        msg = f"'{text_or_file}' is neither a public key (RW…) nor a file with one; make one: peft-dml bundle keygen"
        raise ConfigError(msg)
    return PublicKey(raw[2:10], raw[10:])


def make_keys(secret: Path) -> PublicKey:
    """Write a new secret key, readable by its owner only, and its public key beside it (`.pub`).

    Raises:
        ConfigError: one of the files exists.
    """
    key_id, seed = secrets.token_bytes(8), secrets.token_bytes(32)
    private = _library("hazmat.primitives.asymmetric.ed25519").Ed25519PrivateKey.from_private_bytes(seed)
    form = _library("hazmat.primitives.serialization")
    raw = private.public_key().public_bytes(form.Encoding.Raw, form.PublicFormat.Raw)
    public = PublicKey(key_id, raw)
    checksum = hashlib.blake2b(_ALGORITHM + key_id + seed + raw, digest_size=32).digest()
    blob = _ALGORITHM + _UNENCRYPTED + _CHECKSUM + bytes(48) + key_id + seed + raw + checksum
    for path, comment, content, mode in (
        (secret, "secret key", base64.b64encode(blob).decode(), 0o600),
        (secret.with_suffix(".pub"), "public key", public.text, 0o644),
    ):
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            msg = f"{path} exists; keys are not written over: take another name"
            raise ConfigError(msg) from None
        with os.fdopen(file, "w", encoding="utf-8") as out:
            out.write(f"untrusted comment: minisign {comment} {key_id[::-1].hex().upper()}\n{content}\n")
    return public


def sign(file: Path, secret: Path, comment: str = "") -> Path:
    """Write the signature of a file beside it.

    Args:
        file: What is signed.
        secret: Secret key without password, as `make_keys` or `minisign -G -W` writes it.
        comment: Signed as well; the time when empty.

    Returns:
        The signature's file.

    Raises:
        ConfigError: it is no such key.
    """
    key_id, private = _secret_key(secret)
    comment = comment or f"timestamp:{int(time.time())}\tfile:{file.name}"
    signature = private.sign(_digest(file.read_bytes()))
    whole = private.sign(signature + comment.encode())
    lines = (
        "untrusted comment: signature of a model bundle",
        base64.b64encode(_HASHED + key_id + signature).decode(),
        f"{_TRUSTED}{comment}",
        base64.b64encode(whole).decode(),
    )
    out = file.with_name(file.name + SUFFIX)
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return out


def verify(file: Path, content: bytes, trusted: PublicKey) -> str:
    """Check the signature that lies beside a file.

    Args:
        file: Names what was signed; the signature is `<file>.minisig`.
        content: What was read from it, and will be used.
        trusted: Key that must have signed it.

    Returns:
        The comment that was signed with it.

    Raises:
        BundleError: no signature, another key's, or one of another content.
    """
    path = file.with_name(file.name + SUFFIX)
    if not path.is_file():
        msg = (
            f"{file} is not signed, and a trusted key is set; sign it: peft-dml bundle sign, or leave trusted_key empty"
        )
        raise BundleError(msg)
    try:
        _, signed, comment, whole = _lines(path)
        blob, over_all = _decoded(signed, "signature"), _decoded(whole, "signature")
    except (ValueError, ConfigError) as error:
        msg = f"{path} is no signature in minisign's format: {error}"
        raise BundleError(msg) from error
    algorithm, key_id, signature = blob[:2], blob[2:10], blob[10:]
    if algorithm not in {_PLAIN, _HASHED} or len(signature) != 64 or not comment.startswith(_TRUSTED):
        msg = f"{path} is no signature in minisign's format"
        raise BundleError(msg)
    if key_id != trusted.key_id:
        msg = f"{file} was signed by key {key_id[::-1].hex().upper()}, trusted is {trusted.key_id[::-1].hex().upper()}"
        raise BundleError(msg)
    public = _library("hazmat.primitives.asymmetric.ed25519").Ed25519PublicKey
    key, said = public.from_public_bytes(trusted.raw), comment.removeprefix(_TRUSTED)
    try:
        key.verify(signature, _digest(content) if algorithm == _HASHED else content)
        key.verify(over_all, signature + said.encode())
    except _library("exceptions").InvalidSignature:
        msg = f"{file} or its signature was altered after signing; take the bundle from its source again"
        raise BundleError(msg) from None
    return said


def _secret_key(path: Path) -> tuple[bytes, Any]:
    if not path.is_file():
        msg = f"no secret key {path}; make one: peft-dml bundle keygen {path}"
        raise ConfigError(msg)
    blob = _decoded(_lines(path)[-1], f"secret key in {path}")
    if len(blob) != 158 or blob[:2] != _ALGORITHM or blob[2:4] != _UNENCRYPTED:
        msg = f"{path} is no secret key without password; sign with minisign itself: minisign -S -m manifest.json"
        raise ConfigError(msg)
    key_id, seed, raw, checksum = blob[54:62], blob[62:94], blob[94:126], blob[126:]
    if hashlib.blake2b(_ALGORITHM + key_id + seed + raw, digest_size=32).digest() != checksum:
        msg = f"{path} is damaged: its checksum differs"
        raise ConfigError(msg)
    private = _library("hazmat.primitives.asymmetric.ed25519").Ed25519PrivateKey
    return key_id, private.from_private_bytes(seed)


def _library(part: str) -> Any:
    """A module of `cryptography`, which only those need who sign or verify."""
    try:
        return import_module(f"cryptography.{part}")
    except ModuleNotFoundError:
        msg = (
            "signatures need the Python module 'cryptography'; install it: pip install 'peft_dml_ros[signature]',"
            " or apt install python3-cryptography"
        )
        raise ConfigError(msg) from None


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content).digest()


def _lines(path: Path) -> list[str]:
    with path.open("rb") as file:
        return file.read(_LARGEST).decode("utf-8", errors="replace").strip().split("\n")


def _decoded(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        msg = f"the {what} is not base64: {error}"
        raise ConfigError(msg) from error
