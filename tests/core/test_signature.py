# SPDX-License-Identifier: Apache-2.0
"""Signatures: those of this package, one that minisign itself made, and everything that must be refused."""

import base64
import json
import stat

import pytest

pytest.importorskip("minisign")

from peft_dml_ros.core.bundle import MANIFEST, load_bundle
from peft_dml_ros.core.errors import BundleError, ConfigError
from peft_dml_ros.core.signature import public_key, verify
from peft_dml_tools.bundles.manifest import SIGNATURE, write_manifest
from peft_dml_tools.bundles.signing import make_keys, sign
from tests.support.random_bundle import make_random_bundle


@pytest.fixture
def keys(tmp_path):
    return make_keys(tmp_path / "robot.key"), tmp_path / "robot.key"


@pytest.fixture
def bundle(tmp_path):
    return make_random_bundle(tmp_path / "bundle")


def line_of(key):
    return key.to_base64().decode()


def test_a_signed_bundle_is_taken_and_every_other_refused(bundle, keys, tmp_path):
    public, secret = keys
    with pytest.raises(BundleError, match="is not signed"):
        load_bundle(bundle, line_of(public))
    sign(bundle / MANIFEST, secret, "of the test")
    assert load_bundle(bundle, line_of(public)).manifest.name == "random"
    assert load_bundle(bundle, str(secret.with_suffix(".pub"))).path == bundle
    assert verify(bundle / MANIFEST, (bundle / MANIFEST).read_bytes(), public) == "of the test"
    other = make_keys(tmp_path / "other.key")
    with pytest.raises(BundleError, match="was signed by another key"):
        load_bundle(bundle, line_of(other))


def test_a_manifest_that_was_written_again_needs_another_signature(bundle, keys):
    public, secret = keys
    sign(bundle / MANIFEST, secret)
    (bundle / "MODEL_CARD.md").write_text("now with a card")
    write_manifest(bundle, load_bundle(bundle).manifest)
    assert SIGNATURE not in load_bundle(bundle).manifest.files
    with pytest.raises(BundleError, match="altered after signing"):
        load_bundle(bundle, line_of(public))


@pytest.mark.parametrize("line", [1, 2, 3])
def test_any_altered_line_is_refused(bundle, keys, line):
    public, secret = keys
    path = sign(bundle / MANIFEST, secret)
    lines = path.read_text().splitlines()
    if line == 2:
        lines[line] = lines[line].replace("file:", "File:")
    else:
        raw = bytearray(base64.b64decode(lines[line]))
        raw[-1] ^= 1
        lines[line] = base64.b64encode(raw).decode()
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(BundleError, match="altered after signing"):
        load_bundle(bundle, line_of(public))


@pytest.mark.parametrize("content", [b"", b"\xff" * 40_000, b"a\nb\nc\nd\n", b"one\ntwo\n"])
def test_what_is_no_signature_is_refused(bundle, keys, content):
    (bundle / SIGNATURE).write_bytes(content)
    with pytest.raises(BundleError, match="no signature in minisign's format"):
        load_bundle(bundle, line_of(keys[0]))


def test_a_signature_of_minisign_itself_is_good(tmp_path):
    """The example of minisign's own documentation: its author's key, and what it signs."""
    key = public_key("RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3")
    file = tmp_path / "test"
    file.with_name("test.minisig").write_text(
        "untrusted comment: signature from minisign secret key\n"
        "RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=\n"
        "trusted comment: timestamp:1633700835\tfile:test\tprehashed\n"
        "wLMDjy9FLAuxZ3q4NlEvkgtyhrr0gtTu6KC4KBJdITbbOeAi1zBIYo0v4iTgt8jJpIidRJnp94ABQkJAgAooBQ==\n"
    )
    assert "prehashed" in verify(file, b"test", key)
    with pytest.raises(BundleError, match="altered"):
        verify(file, b"Test", key)


def test_keys_are_kept_private_and_never_written_over(keys):
    _, secret = keys
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    with pytest.raises(ConfigError, match="not overwritten"):
        make_keys(secret)


def test_wrong_keys_are_named(bundle, keys, tmp_path):
    with pytest.raises(ConfigError, match="neither a public key"):
        public_key("no key!")
    with pytest.raises(ConfigError, match="neither a public key"):
        public_key(base64.b64encode(b"short").decode())
    with pytest.raises(ConfigError, match="keygen"):
        sign(bundle / MANIFEST, tmp_path / "none")
    with pytest.raises(ConfigError, match="without password"):
        sign(bundle / MANIFEST, keys[1].with_suffix(".pub"))


def test_a_damaged_secret_key_signs_nothing(bundle, keys):
    _, secret = keys
    comment, line = secret.read_text().splitlines()
    raw = bytearray(base64.b64decode(line))
    raw[70] ^= 1  # within the seed
    secret.write_text(f"{comment}\n{base64.b64encode(raw).decode()}\n")
    with pytest.raises(ConfigError, match="cannot sign"):
        sign(bundle / MANIFEST, secret)
    assert not (bundle / SIGNATURE).exists()


def test_a_calibration_without_sha256_is_refused(bundle):
    (bundle / "calibration.json").write_text(json.dumps({"temperature": {"11111": 0.01}}))
    with pytest.raises(BundleError, match=r"'calibration\.json' has no sha256"):
        load_bundle(bundle)
