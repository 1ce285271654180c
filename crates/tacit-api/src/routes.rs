//! The routes. Routers and the OpenAPI document are both made from [`Operation`], so they cannot disagree.

use http::Method;

/// A kind of node with an HTTP surface of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Node {
    /// A gateway.
    Gateway,
    /// A worker.
    Worker,
}

/// Something that a gateway or worker can be asked over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// The deployment that the gateway serves.
    Deployment,
    /// A function's registry entry.
    Function,
    /// Stores a blob under its digest.
    PutBlob,
    /// Reads a blob.
    GetBlob,
    /// A function's workers.
    Workers,
    /// A worker's identity document.
    Identity,
    /// A sealed call.
    SealedCall,
    /// A call without a seal.
    PlainCall,
    /// The receipt bundle of a call.
    Receipt,
    /// The newest checkpoint of a worker's log.
    LogCheckpoint,
    /// A tile of a worker's log.
    LogTile,
    /// The workers that run models.
    AiWorkers,
    /// Who a worker is that runs models: its ACI report.
    AiAttestation,
    /// A request to a worker's models, sealed as a whole.
    AiSealed,
    /// Whether the process lives.
    Health,
    /// Whether the node serves.
    Ready,
    /// Counters in Prometheus' text format.
    Metrics,
    /// The OpenAPI document.
    OpenApi,
    /// What this node is.
    Index,
}

impl Operation {
    /// All operations.
    pub const ALL: &[Self] = &[
        Self::Deployment,
        Self::Function,
        Self::PutBlob,
        Self::GetBlob,
        Self::Workers,
        Self::Identity,
        Self::SealedCall,
        Self::PlainCall,
        Self::Receipt,
        Self::LogCheckpoint,
        Self::LogTile,
        Self::AiWorkers,
        Self::AiAttestation,
        Self::AiSealed,
        Self::Health,
        Self::Ready,
        Self::Metrics,
        Self::OpenApi,
        Self::Index,
    ];

    /// The operations of one kind of node.
    pub fn of(node: Node) -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(move |operation| operation.nodes().contains(&node))
    }

    /// Which nodes have it.
    pub const fn nodes(self) -> &'static [Node] {
        match self {
            Self::Deployment
            | Self::Function
            | Self::PutBlob
            | Self::GetBlob
            | Self::Workers
            | Self::AiWorkers
            | Self::OpenApi
            | Self::Index => &[Node::Gateway],
            Self::Identity => &[Node::Worker],
            Self::SealedCall
            | Self::PlainCall
            | Self::Receipt
            | Self::LogCheckpoint
            | Self::LogTile
            | Self::AiAttestation
            | Self::AiSealed
            | Self::Health
            | Self::Ready
            | Self::Metrics => &[Node::Gateway, Node::Worker],
        }
    }

    /// The HTTP method.
    pub const fn method(self) -> Method {
        match self {
            Self::PutBlob => Method::PUT,
            Self::SealedCall | Self::PlainCall | Self::AiSealed => Method::POST,
            _ => Method::GET,
        }
    }

    /// The path, with parameters in braces as a router takes them.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Deployment => "/v1/deployment",
            Self::Function => "/v1/functions/{id}",
            Self::PutBlob | Self::GetBlob => "/v1/blobs/{digest}",
            Self::Workers | Self::SealedCall => "/f/{id}",
            Self::Identity => "/v1/identity",
            Self::PlainCall => "/f/{id}/{method}",
            Self::Receipt => "/v1/receipts/{call}",
            Self::LogCheckpoint => "/log/{worker}/checkpoint",
            Self::LogTile => "/log/{worker}/tile/{*path}",
            Self::AiWorkers => "/ai",
            Self::AiAttestation => "/ai/{worker}/v1/aci/attestation",
            Self::AiSealed => "/ai/{worker}/v1/sealed",
            Self::Health => "/healthz",
            Self::Ready => "/readyz",
            Self::Metrics => "/metrics",
            Self::OpenApi => "/openapi.json",
            Self::Index => "/",
        }
    }

    /// The operation's name in the OpenAPI document.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deployment => "readDeployment",
            Self::Function => "readFunction",
            Self::PutBlob => "writeBlob",
            Self::GetBlob => "readBlob",
            Self::Workers => "readWorkers",
            Self::Identity => "readIdentity",
            Self::SealedCall => "callSealed",
            Self::PlainCall => "callPlain",
            Self::Receipt => "readReceipt",
            Self::LogCheckpoint => "readCheckpoint",
            Self::LogTile => "readTile",
            Self::AiWorkers => "readAiWorkers",
            Self::AiAttestation => "readAiAttestation",
            Self::AiSealed => "askSealed",
            Self::Health => "isAlive",
            Self::Ready => "isReady",
            Self::Metrics => "readMetrics",
            Self::OpenApi => "readOpenApi",
            Self::Index => "readIndex",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_operations_share_a_name_or_a_route() {
        let mut names: Vec<_> = Operation::ALL.iter().map(|operation| operation.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Operation::ALL.len());
        let mut routes: Vec<_> =
            Operation::ALL.iter().map(|operation| (operation.path(), operation.method().to_string())).collect();
        routes.sort();
        routes.dedup();
        assert_eq!(routes.len(), Operation::ALL.len());
    }
}
