#!/usr/bin/env python3
"""Checks a receipt bundle with Python's eth-account and none of Tacit's code.

    pip install eth-account
    python3 check.py BUNDLE DEPLOYMENT [--typed-data FILE]

Checks that DEPLOYMENT is the cluster the bundle names, that at least t gatekeepers signed the worker's certificate, that the
worker signed the receipt, that a register quorum signed the commit or confirmed the query, and that the receipt stands in the
log. It does not judge hardware evidence, policies or time: `tacit verify` does. With --typed-data it also writes the receipt as
EIP-712 JSON for `cast wallet verify --data --from-file`. Exit status: 0 if everything holds, 3 if not.
"""

import hashlib
import json
import sys

from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils import keccak

KINDS = ["command", "query", "staleQuery", "trigger", "chainRequest", "publish", "inference", "training"]
OUTCOMES = ["ok", "thrown", "limit", "denied", "unavailable"]
PLATFORMS = {"sgx": 1, "tdx": 2, "sev-snp": 3, "nitro": 4}


def fields(text):
    return [dict(zip(("type", "name"), field.split())) for field in text.split(",")]


TYPES = {
    "Receipt": fields(
        "bytes32 functionId,bytes32 codeHash,bytes32 certificate,bytes32 callId,uint8 kind,uint8 outcome,bytes32 method,"
        "bytes32 caller,bytes32 request,bytes32 response,uint64 sequence,bytes32 headBefore,bytes32 headAfter,uint64 fence,"
        "bytes32 effects,bytes32 usage,uint64 fuel,uint64 time,uint64 epoch"
    ),
    "Certificate": fields(
        "address worker,bytes32 keyset,uint8 platform,bytes32 measurement,bytes32 chip,uint8 confidence,bytes32 root,"
        "bytes32 policy,bool simulated,address operator,uint64 collateralTime,uint64 notBefore,uint64 notAfter,uint64 epoch"
    ),
    "Ack": fields(
        "uint64 epoch,bytes32 functionId,uint64 fence,uint64 sequence,bytes32 head,bytes32 receiptsRoot,uint64 time"
    ),
    "AckBatch": fields("uint64 epoch,bytes32 root,uint64 time"),
    "Confirmation": fields("uint64 epoch,bytes32 root,bytes32 nonce,uint64 time"),
}


class Refused(Exception):
    pass


def require(holds, what):
    if not holds:
        raise Refused(what)


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def raw(text):
    return bytes.fromhex(text.removeprefix("0x"))


class Cluster:
    """The anchor: what the deployment file says, whose digest is the cluster id."""

    def __init__(self, deployment):
        genesis = deployment["genesis"]
        tag = b"tacit.genesis.sim\0" if genesis["simulated"] else b"tacit.genesis\0"
        self.id = "0x" + hashlib.sha256(tag + canonical(genesis)).hexdigest()
        self.members = [member["address"] for member in genesis["gatekeepers"]]
        self.threshold = genesis["threshold"]
        self.quorum = (len(self.members) + self.threshold + 1) // 2

    def message(self, name, value):
        domain = {"name": "Tacit", "version": "1", "salt": raw(self.id)}
        return encode_typed_data(domain, {name: TYPES[name]}, value)

    def digest(self, name, value):
        message = self.message(name, value)
        return keccak(b"\x19" + message.version + message.header + message.body)

    def signer(self, name, value, signature):
        return Account.recover_message(self.message(name, value), signature=raw(signature)).lower()

    def check_signers(self, pairs, needed, what):
        indices = [index for index, _ in pairs]
        require(indices == sorted(set(indices)), f"{what}: indices do not rise")
        require(all(self.members[index] == signer for index, signer in pairs), f"{what}: a signature is of somebody else")
        require(len(pairs) >= needed, f"{what}: {len(pairs)} signatures, {needed} needed")
        return len(pairs)


def leaf(value):
    return keccak(keccak(value))


def sorted_root(node, path):
    """OpenZeppelin's MerkleProof: pairs sorted before hashing."""
    for sibling in map(raw, path):
        node = keccak(min(node, sibling) + max(node, sibling))
    return node


def log_root(digest, index, size, path):
    """RFC 9162, section 2.1.3.2, over the receipt's digest."""
    require(index < size, "log: no such entry")
    node, first, last = hashlib.sha256(b"\0" + digest).digest(), index, size - 1
    for sibling in map(raw, path):
        require(last > 0, "log: the path is too long")
        if first & 1 or first == last:
            node = hashlib.sha256(b"\1" + sibling + node).digest()
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            node = hashlib.sha256(b"\1" + node + sibling).digest()
        first, last = first >> 1, last >> 1
    require(last == 0, "log: the path is too short")
    return node


def check(bundle, deployment):
    cluster = Cluster(deployment)
    require(bundle["cluster"] == cluster.id, f"the bundle is of cluster {bundle['cluster']}, not {cluster.id}")

    signed = bundle["certificate"]
    certificate = {**signed["certificate"], "platform": PLATFORMS[signed["certificate"]["platform"]]}
    pairs = [(s["index"], cluster.signer("Certificate", certificate, s["signature"])) for s in signed["signatures"]]
    count = cluster.check_signers(pairs, cluster.threshold, "certificate")
    keyset = hashlib.sha256(canonical(signed["keyset"])).hexdigest()
    require(certificate["keyset"] == "0x" + keyset, "the keyset is not the certificate's")
    print(f"certificate  {count} of {len(cluster.members)} gatekeepers, worker {certificate['worker']}")

    receipt = dict(bundle["receipt"])
    receipt["kind"], receipt["outcome"] = KINDS.index(receipt["kind"]), OUTCOMES.index(receipt["outcome"])
    require(raw(receipt["certificate"]) == cluster.digest("Certificate", certificate), "the receipt names another certificate")
    digest = cluster.digest("Receipt", receipt)
    signer = cluster.signer("Receipt", receipt, bundle["signature"])
    require(signer == certificate["worker"], f"the receipt is signed by {signer}")
    print(f"receipt      {signer} signed 0x{digest.hex()}")

    if "acknowledgement" in bundle:
        quorum = bundle["acknowledgement"]
        ack, batch = quorum["ack"], quorum["batch"]
        pairs = [(s["index"], cluster.signer("AckBatch", batch, s["signature"])) for s in quorum["signatures"]]
        count = cluster.check_signers(pairs, cluster.quorum, "acknowledgement")
        require(sorted_root(leaf(cluster.digest("Ack", ack)), quorum["batchPath"]) == raw(batch["root"]), "not in the batch")
        require(sorted_root(leaf(digest), quorum["receiptPath"]) == raw(ack["receiptsRoot"]), "not in the commit")
        same = all(ack[a] == receipt[r] for a, r in [("functionId", "functionId"), ("fence", "fence"),
                                                      ("sequence", "sequence"), ("head", "headAfter"), ("epoch", "epoch")])
        require(same and ack["epoch"] == batch["epoch"] and ack["time"] == batch["time"], "the acknowledgement is of another commit")
        print(f"register     {count} gatekeepers acknowledged sequence {ack['sequence']} under fence {ack['fence']}")
    elif "confirmation" in bundle:
        quorum = bundle["confirmation"]
        position = raw(receipt["functionId"]) + b"".join(
            receipt[name].to_bytes(32, "big") for name in ("fence", "sequence")) + raw(receipt["headAfter"])
        pairs = []
        for signed in quorum["signatures"]:
            # Each gatekeeper signs the root of the positions that it found to be the newest, at its own time.
            root = "0x" + sorted_root(leaf(position), signed["path"]).hex()
            statement = {"epoch": quorum["epoch"], "root": root, "nonce": quorum["nonce"], "time": signed["time"]}
            pairs.append((signed["index"], cluster.signer("Confirmation", statement, signed["signature"])))
        count = cluster.check_signers(pairs, cluster.quorum, "confirmation")
        require(sorted_root(leaf(digest), quorum["receiptPath"]) == raw(quorum["nonce"]), "the round is of other receipts")
        require(quorum["epoch"] == receipt["epoch"], "the confirmation is of another gatekeeper epoch")
        print(f"register     {count} gatekeepers confirmed sequence {receipt['sequence']} as the newest")
    else:
        require(receipt["kind"] == KINDS.index("staleQuery"), "no acknowledgement and no confirmation")

    if "log" in bundle:
        import base64
        log = bundle["log"]
        origin, size, root = log["checkpoint"].split("\n")[:3]
        require(origin == f"tacit/{cluster.id}/{certificate['worker']}", "the checkpoint is of another log")
        require(log_root(digest, log["index"], int(size), log["path"]) == base64.b64decode(root), "not in the log")
        print(f"log          entry {log['index']} of {size}; check.mjs checks the checkpoint's Ed25519 signature too")

    for name, opening in bundle.get("openings", {}).items():
        text = name.encode()
        encoded = (96).to_bytes(32, "big") + raw(opening["salt"]) + keccak(raw(opening["bytes"]))
        encoded += len(text).to_bytes(32, "big") + text.ljust(32, b"\0")
        require(keccak(encoded) == raw(receipt[name]), f"the {name} is not the receipt's")
        print(f"{name:12} opens the receipt's commitment ({len(raw(opening['bytes']))} bytes)")
    return cluster, receipt


def typed_data(cluster, receipt):
    domain = [{"name": "name", "type": "string"}, {"name": "version", "type": "string"}, {"name": "salt", "type": "bytes32"}]
    return {
        "types": {"EIP712Domain": domain, "Receipt": TYPES["Receipt"]},
        "primaryType": "Receipt",
        "domain": {"name": "Tacit", "version": "1", "salt": cluster.id},
        "message": receipt,
    }


def main():
    if len(sys.argv) not in (3, 5) or (len(sys.argv) == 5 and sys.argv[3] != "--typed-data"):
        raise SystemExit(__doc__)
    with open(sys.argv[1], "rb") as bundle_file, open(sys.argv[2], "rb") as deployment_file:
        bundle, deployment = json.load(bundle_file), json.load(deployment_file)
    try:
        cluster, receipt = check(bundle, deployment)
    except (Refused, KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        print(f"REFUSED: {error}")
        raise SystemExit(3)
    if len(sys.argv) == 5:
        with open(sys.argv[4], "w", encoding="utf-8") as file:
            json.dump(typed_data(cluster, receipt), file)


if __name__ == "__main__":
    main()
