//! What a call did to the world outside its state; a Merkle tree over them stands in the receipt.

use alloy_primitives::{B256, U256};
use alloy_sol_types::SolValue;
use serde::{Deserialize, Serialize};
use tacit_types::{Address, Digest, merkle};

/// One effect of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Effect {
    /// An HTTP exchange. Leaf: `("fetch", method, url, uint16 status, response, serverKey)`.
    Fetch {
        /// The HTTP method.
        method: String,
        /// SHA-256 of the URL as it was asked for.
        url: Digest,
        /// The status, zero when nobody answered.
        status: u16,
        /// SHA-256 of the response body; of nothing when nobody answered.
        response: Digest,
        /// SHA-256 of the server's subject public key info, zero without TLS.
        server_key: Digest,
    },
    /// A call of another function. Leaf: `("call", receipt)`.
    Call {
        /// Digest of the other call's receipt.
        receipt: Digest,
    },
    /// A publication to a contract, which has a receipt of its own. Leaf: `("publish", uint256 chainId, address consumer,
    /// string topic, uint64 sequence, data)`.
    Publish {
        /// The chain.
        chain_id: u64,
        /// The contract.
        consumer: Address,
        /// The topic.
        topic: String,
        /// Sequence within function, chain, contract and topic.
        sequence: u64,
        /// Keccak-256 of the data.
        data: Digest,
    },
    /// An AI inference, which has an ACI receipt of its own. Leaf: `("inference", receipt, model)`.
    Inference {
        /// SHA-256 of the canonical ACI receipt.
        receipt: Digest,
        /// SHA-256 of the model manifest.
        model: Digest,
    },
}

impl Effect {
    /// The effect's leaf: `k(k(e(…)))`.
    pub fn leaf(&self) -> Digest {
        let b256 = |digest: &Digest| B256::from(*digest);
        let encoded = match self {
            Self::Fetch { method, url, status, response, server_key } => {
                ("fetch".to_owned(), method.clone(), b256(url), *status, b256(response), b256(server_key))
                    .abi_encode_params()
            }
            Self::Call { receipt } => ("call".to_owned(), b256(receipt)).abi_encode_params(),
            Self::Inference { receipt, model } => {
                ("inference".to_owned(), b256(receipt), b256(model)).abi_encode_params()
            }
            Self::Publish { chain_id, consumer, topic, sequence, data } => (
                "publish".to_owned(),
                U256::from(*chain_id),
                alloy_primitives::Address::from(*consumer),
                topic.clone(),
                *sequence,
                b256(data),
            )
                .abi_encode_params(),
        };
        merkle::leaf_of(&encoded)
    }
}

/// The root that stands in the receipt; zero for none.
pub fn effects_root(effects: &[Effect]) -> Digest {
    merkle::root(&effects.iter().map(Effect::leaf).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_counts() {
        let base = Effect::Fetch {
            method: "GET".into(),
            url: Digest::from([1; 32]),
            status: 200,
            response: Digest::from([2; 32]),
            server_key: Digest::from([3; 32]),
        };
        let Effect::Fetch { method, url, status, response, server_key } = base.clone() else { unreachable!() };
        let other = Digest::from([9; 32]);
        let fetch = |method: &str, url, status, response, server_key| {
            Effect::Fetch { method: method.into(), url, status, response, server_key }.leaf()
        };
        let leaves = [
            base.leaf(),
            fetch("PUT", url, status, response, server_key),
            fetch(&method, other, status, response, server_key),
            fetch(&method, url, 404, response, server_key),
            fetch(&method, url, status, other, server_key),
            fetch(&method, url, status, response, other),
            Effect::Call { receipt: url }.leaf(),
            Effect::Inference { receipt: url, model: response }.leaf(),
            Effect::Inference { receipt: url, model: other }.leaf(),
            Effect::Inference { receipt: other, model: response }.leaf(),
        ];
        let distinct: std::collections::BTreeSet<_> = leaves.into_iter().collect();
        assert_eq!(distinct.len(), leaves.len());
        assert_eq!(effects_root(&[]), Digest::ZERO);
        assert_eq!(effects_root(std::slice::from_ref(&base)), base.leaf());
    }
}
