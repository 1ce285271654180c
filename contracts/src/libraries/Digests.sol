// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Certificate, CertificateId, FunctionId, Receipt} from "../types/Types.sol";

/// @title EIP-712 digests
/// @notice Everything that gatekeepers and workers sign. The domain has no chain id: a signature is valid on every chain
/// and in one cluster.
library Digests {
    bytes32 internal constant DOMAIN_TYPE = keccak256("EIP712Domain(string name,string version,bytes32 salt)");
    bytes32 internal constant CERTIFICATE_TYPE = keccak256(
        "Certificate(address worker,bytes32 keyset,uint8 platform,bytes32 measurement,bytes32 chip,uint8 confidence,bytes32 root,bytes32 policy,bool simulated,address operator,uint64 collateralTime,uint64 notBefore,uint64 notAfter,uint64 epoch)"
    );
    bytes32 internal constant RECEIPT_TYPE = keccak256(
        "Receipt(bytes32 functionId,bytes32 codeHash,bytes32 certificate,bytes32 callId,uint8 kind,uint8 outcome,bytes32 method,bytes32 caller,bytes32 request,bytes32 response,uint64 sequence,bytes32 headBefore,bytes32 headAfter,uint64 fence,bytes32 effects,bytes32 usage,uint64 fuel,uint64 time,uint64 epoch)"
    );
    bytes32 internal constant ENDPOINT_TYPE =
        keccak256("Endpoint(address worker,bytes32 keyset,string endpoint,uint64 notBefore)");
    bytes32 internal constant ACK_TYPE = keccak256(
        "Ack(uint64 epoch,bytes32 functionId,uint64 fence,uint64 sequence,bytes32 head,bytes32 receiptsRoot,uint64 time)"
    );
    bytes32 internal constant ACK_BATCH_TYPE = keccak256("AckBatch(uint64 epoch,bytes32 root,uint64 time)");
    bytes32 internal constant RECEIPT_BATCH_TYPE =
        keccak256("ReceiptBatch(bytes32 certificate,bytes32 root,uint64 size)");
    bytes32 internal constant HEARTBEAT_TYPE =
        keccak256("Heartbeat(bytes32 certificate,uint64 size,bytes32 root,uint64 time)");
    bytes32 internal constant REVOCATION_TYPE =
        keccak256("Revocation(uint8 subject,bytes32 value,bytes32[] functions,uint64 epoch)");
    bytes32 internal constant SET_UPDATE_TYPE =
        keccak256("SetUpdate(uint64 epoch,address[] members,uint32 threshold,uint64 validUntil)");

    /// @notice The domain separator of a cluster.
    function domainSeparator(bytes32 clusterId) internal pure returns (bytes32) {
        return keccak256(abi.encode(DOMAIN_TYPE, keccak256("Tacit"), keccak256("1"), clusterId));
    }

    /// @notice The digest that is signed for a struct hash.
    function typed(bytes32 domain, bytes32 structHash) internal pure returns (bytes32 digest) {
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, hex"1901")
            mstore(add(free, 2), domain)
            mstore(add(free, 34), structHash)
            digest := keccak256(free, 66)
        }
    }

    function certificate(bytes32 domain, Certificate calldata value) internal pure returns (CertificateId) {
        return CertificateId.wrap(typed(domain, keccak256(abi.encode(CERTIFICATE_TYPE, value))));
    }

    function receipt(bytes32 domain, Receipt calldata value) internal pure returns (bytes32) {
        return typed(domain, keccak256(abi.encode(RECEIPT_TYPE, value)));
    }

    function endpoint(bytes32 domain, Certificate calldata value, string calldata url) internal pure returns (bytes32) {
        return typed(
            domain,
            keccak256(abi.encode(ENDPOINT_TYPE, value.worker, value.keyset, keccak256(bytes(url)), value.notBefore))
        );
    }

    /// @notice The acknowledgement of the commit that `value` belongs to.
    function ack(bytes32 domain, Receipt calldata value, bytes32 receiptsRoot, uint64 time)
        internal
        pure
        returns (bytes32)
    {
        return typed(
            domain,
            keccak256(
                abi.encode(
                    ACK_TYPE,
                    value.epoch,
                    value.functionId,
                    value.fence,
                    value.sequence,
                    value.headAfter,
                    receiptsRoot,
                    time
                )
            )
        );
    }

    function ackBatch(bytes32 domain, uint64 epoch, bytes32 root, uint64 time) internal pure returns (bytes32) {
        return typed(domain, keccak256(abi.encode(ACK_BATCH_TYPE, epoch, root, time)));
    }

    function receiptBatch(bytes32 domain, CertificateId certificateId, bytes32 root, uint64 size)
        internal
        pure
        returns (bytes32)
    {
        return typed(domain, keccak256(abi.encode(RECEIPT_BATCH_TYPE, certificateId, root, size)));
    }

    function heartbeat(bytes32 domain, CertificateId certificateId, uint64 size, bytes32 root, uint64 time)
        internal
        pure
        returns (bytes32)
    {
        return typed(domain, keccak256(abi.encode(HEARTBEAT_TYPE, certificateId, size, root, time)));
    }

    function revocation(bytes32 domain, uint8 subject, bytes32 value, FunctionId[] calldata functions, uint64 epoch)
        internal
        pure
        returns (bytes32)
    {
        bytes32 list = keccak256(abi.encodePacked(functions));
        return typed(domain, keccak256(abi.encode(REVOCATION_TYPE, subject, value, list, epoch)));
    }

    function setUpdate(bytes32 domain, uint64 epoch, address[] calldata members, uint32 threshold, uint64 validUntil)
        internal
        pure
        returns (bytes32)
    {
        bytes32 list = keccak256(abi.encodePacked(members));
        return typed(domain, keccak256(abi.encode(SET_UPDATE_TYPE, epoch, list, threshold, validUntil)));
    }
}
