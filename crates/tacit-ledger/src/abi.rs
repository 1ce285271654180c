//! The part of the contracts' interfaces that this crate calls. A test compares every selector with the committed ABI.
#![allow(missing_docs, clippy::too_many_arguments)]

alloy::sol! {
    #![sol(all_derives)]

    struct Certificate {
        address worker; bytes32 keyset; uint8 platform; bytes32 measurement; bytes32 chip; uint8 confidence;
        bytes32 root; bytes32 policy; bool simulated; address operator; uint64 collateralTime; uint64 notBefore;
        uint64 notAfter; uint64 epoch;
    }
    struct Receipt {
        bytes32 functionId; bytes32 codeHash; bytes32 certificate; bytes32 callId; uint8 kind; uint8 outcome;
        bytes32 method; bytes32 caller; bytes32 request; bytes32 response; uint64 sequence; bytes32 headBefore;
        bytes32 headAfter; uint64 fence; bytes32 effects; bytes32 usage; uint64 fuel; uint64 time; uint64 epoch;
    }
    struct Acknowledgement { uint64 time; bytes32[] receiptProof; bytes32[] batchProof; bytes signatures; }
    struct ReceiptBatch {
        bytes32 functionId; bytes32 codeHash; bytes32 certificate; uint8 kind; uint8 outcome; bytes32 method;
        bytes32 caller; uint64 fence; uint64 epoch; BatchCommit[] commits; BatchItem[] items;
    }
    struct BatchCommit { uint64 sequence; bytes32 headBefore; bytes32 headAfter; }
    struct BatchItem { bytes32 callId; bytes32 request; bytes32 response; bytes32 effects; bytes32 usage; uint256 figures; }

    interface IGatekeeperSet {
        function clusterId() external view returns (bytes32);
        function epoch() external view returns (uint64);
        function validUntil() external view returns (uint64);
        function threshold() external view returns (uint32);
        function members() external view returns (address[] memory);
        function advance(address[] members_, uint32 threshold_, uint64 validUntil_, bytes signatures) external;

        error ImpossibleSet();
        error SetExpired(uint64 validUntil);
        error NoSuchMember(uint256 index);
        error BelowThreshold(uint256 found, uint256 needed);
    }

    interface IQuorumVerifier {
        error TooFewSignatures(uint256 found, uint256 needed);
        error OtherEpoch(uint64 current, uint64 signed);
        error SignatureLength(uint256 length);
        error SignatureOrder();
        error WrongSigner(uint256 index);
    }

    interface IPolicyRegistry {
        struct Policy { bytes32 policyHash; uint64 activeFrom; bool vetoed; string uri; }

        function current() external view returns (Policy memory);
        function timelock() external view returns (uint64);
        function isAllowed(bytes32 measurement) external view returns (bool);
        function isDenied(uint8 subject, bytes32 value) external view returns (bool);
        function propose(bytes32 policyHash, string uri) external;
        function allowMeasurement(bytes32 measurement) external;
        function removeMeasurement(bytes32 measurement) external;
        function deny(uint8 subject, bytes32 value) external;
        function liftDenial(uint8 subject, bytes32 value) external;
        function veto(uint256 index) external;

        error NotGuardian(address account);
        error NotWaiting(uint256 index);
        error NotListed();
        error TimelockTooLong(uint64 timelock, uint64 longest);
        error NoTimelockWaiting();
        error OwnableUnauthorizedAccount(address account);
    }

    interface IWorkerRegistry {
        struct Standing {
            address worker; uint64 notBefore; uint64 notAfter; address operator; bool simulated; bytes32 root; uint64 revokedAt;
        }
        struct Heartbeat { uint64 size; uint64 time; bytes32 root; }

        event CertificatePublished(
            bytes32 indexed id, address indexed worker, address indexed operator, Certificate certificate
        );
        event EndpointChanged(bytes32 indexed id, string endpoint);

        function publish(Certificate certificate, bytes signatures, string endpoint, bytes endpointSignature) external returns (bytes32 id);
        function standing(bytes32 id) external view returns (Standing memory);
        function endpointOf(bytes32 id) external view returns (string memory);
        function refresh(bytes32 id) external;
        function heartbeat(bytes32 id, uint64 size, bytes32 root, uint64 time, bytes signature) external;
        function lastHeartbeat(bytes32 id) external view returns (Heartbeat memory);
        function revoke(uint8 subject, bytes32 value, bytes32[] functions) external;
        function revokeSigned(uint8 subject, bytes32 value, bytes32[] functions, bytes signatures) external;
        function revokedAt(uint8 subject, bytes32 value) external view returns (uint64);
        function minKeyEpoch(bytes32 id) external view returns (uint64);

        error ImpossibleCertificate();
        error CertificateExpired(uint64 notAfter);
        error CertificateRevoked(uint64 revokedAt);
        error UnknownCertificate(bytes32 id);
        error NotSignedBy(address account);
        error StaleHeartbeat();
        error AlreadyRevoked(uint8 subject, bytes32 value);
        error ECDSAInvalidSignature();
        error ECDSAInvalidSignatureLength(uint256 length);
        error ECDSAInvalidSignatureS(bytes32 s);
    }

    interface IFunctionRegistry {
        struct Record {
            address owner; string name; bytes32 codeHash; bytes32 manifestHash; string uri; uint64 activation;
            uint64 keyEpoch; bool frozen; uint64 upgradeDelay; bytes32 secretsDigest; uint64 secretsVersion;
            uint64 resetSequence; uint64 resetKeyEpoch; uint256 versions;
        }

        function register(string name, bytes32 moduleHash, bytes32 manifestHash, string uri, uint64 upgradeDelay) external returns (bytes32 id);
        function upgrade(bytes32 id, bytes32 moduleHash, bytes32 manifestHash, string uri) external;
        function cancelUpgrade(bytes32 id) external;
        function setUpgradeDelay(bytes32 id, uint64 delay) external;
        function freeze(bytes32 id) external;
        function setSecrets(bytes32 id, bytes32 digest, uint64 version) external;
        function reset(bytes32 id, uint64 sequence) external;
        function record(bytes32 id) external view returns (Record memory);

        event FunctionRegistered(bytes32 indexed id, address indexed owner, string name);

        error ImpossibleName();
        error NameTaken(bytes32 id);
        error UnknownFunction(bytes32 id);
        error NotOwner(address account);
        error IsFrozen();
        error VersionWaiting(uint64 activation);
        error NoVersionWaiting();
        error DelayTooLong(uint64 delay);
        error SecretsVersion(uint64 expected);
    }

    interface IReceiptVerifier {
        struct Author { address worker; address operator; bytes32 root; bool simulated; bytes32 digest; }

        function setRoot(bytes32 root, uint8 acceptance) external;
        function acceptanceOf(address consumer, bytes32 root) external view returns (uint8);
        function domainSeparator() external view returns (bytes32);
        function digestOf(Receipt receipt) external view returns (bytes32);
        function inspect(Receipt receipt, bytes signature) external view returns (Author memory);
        function verify(address consumer, Receipt receipt, bytes signature) external view returns (Author memory);
        function verifyAcknowledged(address consumer, Receipt receipt, bytes signature, Acknowledgement acknowledgement) external view returns (Author memory);
        function verifyIncluded(address consumer, Receipt receipt, bytes32[] proof, uint64 size, bytes signature) external view returns (Author memory);
        function verifyBatch(address consumer, ReceiptBatch batch, bytes signature) external view returns (Author memory author, bytes32[] memory digests);

        error WrongWorker(address signer, address worker);
        error CertificateEnded(uint64 notAfter);
        error Revoked(uint64 revokedAt);
        error TimeOutOfRange(uint64 time);
        error RootNotAccepted(bytes32 root);
        error AcknowledgementNeeded();
        error NoSuchCommit(uint256 index);
    }

    interface IRequestHub {
        struct Request {
            address consumer; uint64 deadline; uint8 status; uint64 createdAt; uint64 callbackGas; uint128 fee;
            bytes32 functionId; bytes32 codeHash; bytes32 method; bytes32 request;
        }
        struct Answer { bytes32 id; bytes response; Receipt receipt; bytes32[] proof; }

        event Requested(
            bytes32 indexed id, bytes32 indexed functionId, address indexed consumer, uint256 nonce, bytes32 codeHash,
            string method, bytes input, uint64 callbackGas, uint256 fee, uint64 deadline
        );
        event CalledBack(bytes32 indexed id, bool success);

        function request(bytes32 functionId, bytes32 codeHash, string method, bytes input, uint64 callbackGas, uint256 fee, uint64 deadline) external payable returns (bytes32 id);
        function fulfil(bytes32 id, bytes response, Receipt receipt, bytes signature) external;
        function fulfilAcknowledged(bytes32 id, bytes response, Receipt receipt, bytes signature, Acknowledgement acknowledgement) external;
        function fulfilBatch(Answer[] answers, uint64 size, bytes signature) external;
        function retry(bytes32 id, uint64 callbackGas) external;
        function refund(bytes32 id) external;
        function withdraw(address to) external;
        function requestOf(bytes32 id) external view returns (Request memory);
        function responseOf(bytes32 id) external view returns (bytes memory);
        function owed(address account) external view returns (uint256);

        error FeeNotSent(uint256 fee, uint256 sent);
        error ImpossibleDeadline(uint64 deadline);
        error TooLarge();
        error WrongStatus(bytes32 id, uint8 status);
        error DeadlinePassed(uint64 deadline);
        error DeadlineAhead(uint64 deadline);
        error NotTheAnswer(string field);
        error GasTooLow(uint256 needed);
        error NothingOwed();
        error TransferFailed();
    }

    interface IStoredAnswers {
        function onPublish(string topic, uint64 sequence, bytes data, Receipt receipt, bytes signature) external;
        function onPublishAcknowledged(string topic, uint64 sequence, bytes data, Receipt receipt, bytes signature, Acknowledgement acknowledgement) external;
        function lastSequence(bytes32 functionId, string topic) external view returns (uint64);
        function ask(bytes32 functionId, bytes32 codeHash, string method, bytes input, uint64 callbackGas, uint64 deadline) external payable returns (bytes32);
        function setPublisher(bytes32 functionId, bytes32 codeHash, bool accepted) external;
        function setRoot(bytes32 root, uint8 acceptance) external;
        function setPaused(bool paused_) external;
        function answerOf(bytes32 id) external view returns (bytes memory);
        function published(bytes32 functionId, string topic) external view returns (bytes memory);
        function collect() external;

        error NotTheHub(address account);
        error NotAPublisher(bytes32 functionId);
        error SequenceNotRising(uint64 last, uint64 found);
        error NotThePublication(string field);
        error IsPaused();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use alloy::{
        json_abi::JsonAbi,
        sol_types::{SolEvent, SolInterface},
    };

    use super::*;

    fn committed(json: &str) -> JsonAbi {
        let mut file: serde_json::Value = serde_json::from_str(json).unwrap();
        serde_json::from_value(file["abi"].take()).unwrap()
    }

    fn check<Calls: SolInterface, Errors: SolInterface>(json: &str, events: &[alloy::primitives::B256]) {
        let abi = committed(json);
        let functions: BTreeSet<[u8; 4]> = abi.functions().map(|function| function.selector().0).collect();
        let errors: BTreeSet<[u8; 4]> = abi.errors().map(|error| error.selector().0).collect();
        let topics: BTreeSet<_> = abi.events().map(|event| event.selector()).collect();
        for selector in Calls::selectors() {
            assert!(functions.contains(&selector), "{} has no function {selector:02x?}", Calls::NAME);
        }
        for selector in Errors::selectors() {
            assert!(errors.contains(&selector), "{} has no error {selector:02x?}", Errors::NAME);
        }
        for topic in events {
            assert!(topics.contains(topic), "{} has no event {topic}", Calls::NAME);
        }
    }

    #[test]
    fn every_selector_is_that_of_the_committed_contract() {
        use IFunctionRegistry::*;
        use IGatekeeperSet::*;
        use IPolicyRegistry::*;
        use IReceiptVerifier::*;
        use IRequestHub::*;
        use IStoredAnswers::*;
        use IWorkerRegistry::*;
        macro_rules! abi {
            ($name:literal) => {
                include_str!(concat!("../../../contracts/abi/", $name, ".json"))
            };
        }
        check::<IGatekeeperSetCalls, IGatekeeperSetErrors>(abi!("GatekeeperSet"), &[]);
        check::<IPolicyRegistryCalls, IPolicyRegistryErrors>(abi!("PolicyRegistry"), &[]);
        let workers = [CertificatePublished::SIGNATURE_HASH, EndpointChanged::SIGNATURE_HASH];
        check::<IWorkerRegistryCalls, IWorkerRegistryErrors>(abi!("WorkerRegistry"), &workers);
        let functions = [FunctionRegistered::SIGNATURE_HASH];
        check::<IFunctionRegistryCalls, IFunctionRegistryErrors>(abi!("FunctionRegistry"), &functions);
        check::<IReceiptVerifierCalls, IReceiptVerifierErrors>(abi!("ReceiptVerifier"), &[]);
        let hub = [Requested::SIGNATURE_HASH, CalledBack::SIGNATURE_HASH];
        check::<IRequestHubCalls, IRequestHubErrors>(abi!("RequestHub"), &hub);
        check::<IStoredAnswersCalls, IStoredAnswersErrors>(abi!("StoredAnswers"), &[]);
        let verifier = committed(abi!("EcdsaQuorumVerifier"));
        let errors: BTreeSet<[u8; 4]> = verifier.errors().map(|error| error.selector().0).collect();
        for selector in IQuorumVerifier::IQuorumVerifierErrors::selectors() {
            assert!(errors.contains(&selector), "IQuorumVerifier has no error {selector:02x?}");
        }
    }
}
