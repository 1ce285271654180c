#!/usr/bin/env python3
"""Computes every golden value again with Python's eth-account and eth-abi, sharing no code with the rest.

    pip install eth-account && python3 vectors/check.py
"""

import copy
import hashlib
import importlib.util
import json
import pathlib
import sys

from eth_abi import encode
from eth_account.messages import encode_typed_data
from eth_utils import keccak

HERE = pathlib.Path(__file__).resolve().parent
checked = 0


def equal(name, expected, found):
    global checked
    checked += 1
    found = "0x" + found.hex() if isinstance(found, bytes) else found
    if expected != found:
        raise SystemExit(f"{name}: the file says {expected}, Python says {found}")


def load(name):
    return json.loads((HERE / name).read_text("utf-8"))


def raw(text):
    return bytes.fromhex(text.removeprefix("0x"))


def kabi(types, values):
    """keccak256(abi.encode(…)); byte types may be given as hex."""
    types = types.split()
    values = [raw(value) if kind.startswith("bytes") and isinstance(value, str) else value for kind, value in zip(types, values)]
    return keccak(encode(types, values))


def commitment(tag, salt, data):
    return kabi("string bytes32 bytes32", [tag, salt, keccak(data)])


def leaf(value):
    return keccak(keccak(value))


def node(left, right):
    return keccak(min(left, right) + max(left, right))


def merkle_root(level):
    while len(level) > 1:
        level = [node(*level[i : i + 2]) if i + 1 < len(level) else level[i] for i in range(0, len(level), 2)]
    return level[0] if level else bytes(32)


def u64(*values):
    return b"".join(value.to_bytes(8, "big") for value in values)


def statements():
    document = load("eip712.json")
    domain = {**document["domain"], "salt": raw(document["domain"]["salt"])}
    for struct in document["structs"]:
        message = encode_typed_data(domain, {struct["primaryType"]: struct["members"]}, struct["message"])
        equal(struct["primaryType"], struct["digest"], keccak(b"\x19" + message.version + message.header + message.body))


def formats():
    f = load("formats.json")
    v = f["functionId"]
    equal("functionId", v["digest"], kabi("uint256 address address string", [v["chainId"], v["registry"], v["owner"], v["name"]]))
    v = f["codeHash"]
    equal("codeHash", v["digest"], kabi("bytes32 bytes32", [keccak(v["module"].encode()), keccak(v["manifest"].encode())]))
    for v in f["commitments"]:
        equal(v["tag"], v["digest"], commitment(v["tag"], v["salt"], v["text"].encode()))
    for v in f["callId"]:
        equal("callId", v["digest"], kabi("string bytes32 address string", ["call", v["function"], v["caller"], v["idempotencyKey"]]))
    v = f["triggerId"]
    equal("triggerId", v["digest"], kabi("string bytes32 uint256 bytes32", ["trigger", v["function"], v["index"], v["event"]]))
    v = f["publishId"]
    equal("publishId", v["digest"], kabi("string bytes32 bytes32 uint256", ["publish", v["function"], v["callId"], v["index"]]))
    equal("publishId request", v["request"], encode(["bytes32", "uint256"], [raw(v["callId"]), v["index"]]))
    v = f["head"]
    text = b"tacit/head/1" + raw(v["function"]) + u64(v["keyEpoch"], v["fence"], v["sequence"]) + raw(v["head"])
    equal("head", v["digest"], hashlib.sha256(text + hashlib.sha256(v["ciphertext"].encode()).digest()).digest())
    v = f["request"]
    types = "uint256 address address uint256 bytes32 bytes32 string bytes uint64 uint256 uint64"
    values = [v["chainId"], v["hub"], v["consumer"], v["nonce"], v["functionId"], v["codeHash"], v["method"], v["input"].encode()]
    equal("request", v["digest"], kabi(types, values + [v["callbackGas"], v["fee"], v["deadline"]]))
    v = f["publication"]
    values = [v["chainId"], v["consumer"], v["topic"], v["sequence"], v["data"].encode()]
    encoded = encode(["uint256", "address", "string", "uint64", "bytes"], values)
    equal("publication", v["encoded"], encoded)
    equal("publication response", v["response"], commitment("response", "00" * 32, encoded))
    v = f["confirmationLeaf"]
    encoded = encode(["bytes32", "uint64", "uint64", "bytes32"], [raw(v["function"]), v["fence"], v["sequence"], raw(v["head"])])
    equal("confirmationLeaf", v["digest"], leaf(encoded))


EFFECTS = {
    "fetch": ("string string bytes32 uint16 bytes32 bytes32", ["method", "url", "status", "response", "serverKey"]),
    "call": ("string bytes32", ["receipt"]),
    "inference": ("string bytes32 bytes32", ["receipt", "model"]),
    "publish": ("string uint256 address string uint64 bytes32", ["chainId", "consumer", "topic", "sequence", "data"]),
}


def trees():
    document = load("merkle.json")
    leaves = [leaf(raw(value)) for value in document["values"]]
    for expected, found in zip(document["leaves"], leaves, strict=True):
        equal("leaf", expected, found)
    for tree in document["trees"]:
        equal(f"root of {tree['size']}", tree["root"], merkle_root(leaves[: tree["size"]]))
        for index, path in enumerate(tree["proofs"]):
            found = leaves[index]
            for sibling in path:
                found = node(found, raw(sibling))
            equal(f"proof {index} of {tree['size']}", tree["root"], found)
    effects = []
    for listed in document["effects"]:
        effect = listed["effect"]
        types, members = EFFECTS[effect["type"]]
        effects.append(keccak(kabi(types, [effect["type"], *(effect[member] for member in members)])))
        equal(effect["type"], listed["leaf"], effects[-1])
    equal("effects", document["effectsRoot"], merkle_root(effects))


def log_root(leaves):
    if len(leaves) == 1:
        return leaves[0]
    half = 1
    while 2 * half < len(leaves):
        half *= 2
    return hashlib.sha256(b"\1" + log_root(leaves[:half]) + log_root(leaves[half:])).digest()


def inclusion(leaves, index):
    """The path by the recursive definition of RFC 6962, section 2.1.1."""
    if len(leaves) == 1:
        return []
    half = 1
    while 2 * half < len(leaves):
        half *= 2
    if index < half:
        return [*inclusion(leaves[:half], index), log_root(leaves[half:])]
    return [*inclusion(leaves[half:], index - half), log_root(leaves[:half])]


def consistency(earlier, leaves, whole=True):
    """The proof by the recursive definition of RFC 6962, section 2.1.2."""
    if earlier == len(leaves):
        return [] if whole else [log_root(leaves)]
    half = 1
    while 2 * half < len(leaves):
        half *= 2
    if earlier <= half:
        return [*consistency(earlier, leaves[:half], whole), log_root(leaves[half:])]
    return [*consistency(earlier - half, leaves[half:], False), log_root(leaves[:half])]


def log():
    document = load("log.json")
    leaves = [hashlib.sha256(b"\0" + raw(entry)).digest() for entry in document["entries"]]
    hexed = lambda path: ["0x" + value.hex() for value in path]
    equal("leaves", document["leaves"], hexed(leaves))
    for size in range(1, len(leaves) + 1):
        equal(f"root of {size}", document["roots"][size - 1], log_root(leaves[:size]))
        paths = [hexed(inclusion(leaves[:size], index)) for index in range(size)]
        equal(f"inclusion in {size}", document["inclusion"][size - 1], paths)
        proofs = [hexed(consistency(earlier, leaves[:size])) for earlier in range(1, size + 1)]
        equal(f"consistency with {size}", document["consistency"][size - 1], proofs)


def golden():
    """The golden receipt holds, and no longer does when a member of the receipt or of its certificate changes."""
    path = HERE.parent / "examples" / "check-receipt" / "check.py"
    spec = importlib.util.spec_from_file_location("check_receipt", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.print = lambda *_: None
    bundle, deployment = load("golden.receipt.json"), load("golden.deployment.json")
    script.check(bundle, deployment)
    equal("golden receipt", True, True)
    for holder in (("receipt",), ("certificate", "certificate")):
        for member in script.TYPES[holder[-1].capitalize()]:
            altered = copy.deepcopy(bundle)
            target = altered
            for key in holder:
                target = target[key]
            target[member["name"]] = other(member["name"], target[member["name"]])
            try:
                script.check(altered, deployment)
            except script.Refused:
                equal(member["name"], True, True)
            else:
                raise SystemExit(f"an altered {holder[-1]}.{member['name']} was accepted")


def other(name, value):
    words = {"kind": ["query", "command"], "outcome": ["ok", "thrown"], "platform": ["tdx", "sgx"]}
    if name in words:
        return next(word for word in words[name] if word != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return value[:-1] + ("0" if value[-1] != "0" else "1")


def main():
    for step in (statements, formats, trees, log, golden):
        step()
    print(f"{checked} values agree")


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    main()
