import type { Hex, TypedDataDomain } from "viem";

/** The EIP-712 domain of a cluster: no chain id, so a signature is valid on every chain and in one cluster only. */
export function domain(cluster: Hex): TypedDataDomain {
  return { name: "Tacit", version: "1", salt: cluster };
}

/** What gatekeepers, workers, operators and callers sign. */
export const statements = {
  Receipt: [
    { name: "functionId", type: "bytes32" },
    { name: "codeHash", type: "bytes32" },
    { name: "certificate", type: "bytes32" },
    { name: "callId", type: "bytes32" },
    { name: "kind", type: "uint8" },
    { name: "outcome", type: "uint8" },
    { name: "method", type: "bytes32" },
    { name: "caller", type: "bytes32" },
    { name: "request", type: "bytes32" },
    { name: "response", type: "bytes32" },
    { name: "sequence", type: "uint64" },
    { name: "headBefore", type: "bytes32" },
    { name: "headAfter", type: "bytes32" },
    { name: "fence", type: "uint64" },
    { name: "effects", type: "bytes32" },
    { name: "usage", type: "bytes32" },
    { name: "fuel", type: "uint64" },
    { name: "time", type: "uint64" },
    { name: "epoch", type: "uint64" },
  ],
  Certificate: [
    { name: "worker", type: "address" },
    { name: "keyset", type: "bytes32" },
    { name: "platform", type: "uint8" },
    { name: "measurement", type: "bytes32" },
    { name: "chip", type: "bytes32" },
    { name: "confidence", type: "uint8" },
    { name: "root", type: "bytes32" },
    { name: "policy", type: "bytes32" },
    { name: "simulated", type: "bool" },
    { name: "operator", type: "address" },
    { name: "collateralTime", type: "uint64" },
    { name: "notBefore", type: "uint64" },
    { name: "notAfter", type: "uint64" },
    { name: "epoch", type: "uint64" },
  ],
  Call: [
    { name: "functionId", type: "bytes32" },
    { name: "method", type: "bytes32" },
    { name: "body", type: "bytes32" },
    { name: "certificate", type: "bytes32" },
    { name: "nonce", type: "bytes32" },
    { name: "deadline", type: "uint64" },
  ],
  Endpoint: [
    { name: "worker", type: "address" },
    { name: "keyset", type: "bytes32" },
    { name: "endpoint", type: "string" },
    { name: "notBefore", type: "uint64" },
  ],
  Lease: [
    { name: "functionId", type: "bytes32" },
    { name: "certificate", type: "bytes32" },
    { name: "role", type: "uint8" },
    { name: "fence", type: "uint64" },
    { name: "codeHash", type: "bytes32" },
    { name: "manifestHash", type: "bytes32" },
    { name: "keyEpoch", type: "uint64" },
    { name: "blockNumber", type: "uint64" },
    { name: "until", type: "uint64" },
  ],
  Ack: [
    { name: "epoch", type: "uint64" },
    { name: "functionId", type: "bytes32" },
    { name: "fence", type: "uint64" },
    { name: "sequence", type: "uint64" },
    { name: "head", type: "bytes32" },
    { name: "receiptsRoot", type: "bytes32" },
    { name: "time", type: "uint64" },
  ],
  AckBatch: [
    { name: "epoch", type: "uint64" },
    { name: "root", type: "bytes32" },
    { name: "time", type: "uint64" },
  ],
  Confirmation: [
    { name: "epoch", type: "uint64" },
    { name: "root", type: "bytes32" },
    { name: "nonce", type: "bytes32" },
    { name: "time", type: "uint64" },
  ],
  ReceiptBatch: [
    { name: "certificate", type: "bytes32" },
    { name: "root", type: "bytes32" },
    { name: "size", type: "uint64" },
  ],
  Heartbeat: [
    { name: "certificate", type: "bytes32" },
    { name: "size", type: "uint64" },
    { name: "root", type: "bytes32" },
    { name: "time", type: "uint64" },
  ],
  Revocation: [
    { name: "subject", type: "uint8" },
    { name: "value", type: "bytes32" },
    { name: "functions", type: "bytes32[]" },
    { name: "epoch", type: "uint64" },
  ],
  SetUpdate: [
    { name: "epoch", type: "uint64" },
    { name: "members", type: "address[]" },
    { name: "threshold", type: "uint32" },
    { name: "validUntil", type: "uint64" },
  ],
} as const;

/** Name of a statement. */
export type StatementName = keyof typeof statements;

/** Kinds of receipt in the order of their numbers. */
export const kinds = [
  "command",
  "query",
  "staleQuery",
  "trigger",
  "chainRequest",
  "publish",
  "inference",
  "training",
] as const;

/** Outcomes in the order of their numbers. */
export const outcomes = ["ok", "thrown", "limit", "denied", "unavailable"] as const;

/** Platforms in the order of their numbers; there is no platform 0. */
export const platforms = [null, "sgx", "tdx", "sev-snp", "nitro"] as const;
