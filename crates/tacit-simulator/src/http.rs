//! The Unix socket of a machine: the dstack guest agent's paths, over HTTP with JSON.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use serde_json::{Value, json};
use tacit_types::UnixTime;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::files::failed;
use crate::measure::ProcessMeter;
use crate::{Hardware, Machine, SimulatorError};

/// Most bytes of a request's body.
const MAX_BODY: usize = 16 * 1024;
/// Most bytes of a request's head.
const MAX_HEAD: usize = 16 * 1024;
/// Most connections at a time; more wait.
const MAX_CONNECTIONS: usize = 64;
/// Longest path of a key.
const MAX_KEY_PATH: usize = 1024;
/// A connection ends after this long.
const CONNECTION_LIFE: Duration = Duration::from_secs(30);

/// Serves a machine on a Unix socket.
pub struct Simulator;

/// A machine that is being served; it stops when this is dropped.
pub struct RunningSimulator {
    socket: PathBuf,
    machine: Arc<Machine>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl RunningSimulator {
    /// The socket to connect to.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Stops serving and removes the socket.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let _ = (&mut self.task).await;
    }
}

impl Drop for RunningSimulator {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Simulator {
    /// Starts to serve `machine` at `socket` (mode 0600); a socket that was left there is replaced.
    ///
    /// # Errors
    /// [`SimulatorError::SocketPath`] or [`SimulatorError::File`] if the socket cannot be made.
    pub fn start(machine: Machine, socket: &Path) -> Result<RunningSimulator, SimulatorError> {
        let listener = bind(socket)?;
        let machine = Arc::new(machine);
        let (stop, stopped) = watch::channel(false);
        let service = Service { machine: Arc::clone(&machine), meter: ProcessMeter::default() };
        let task = tokio::spawn(serve(listener, service, stopped));
        Ok(RunningSimulator { socket: socket.to_owned(), machine, stop, task })
    }
}

/// Binds under another name first, so that the socket has its mode before anybody can find it.
fn bind(socket: &Path) -> Result<UnixListener, SimulatorError> {
    let refuse = || SimulatorError::SocketPath { path: socket.to_owned() };
    let mut name = socket.file_name().ok_or_else(refuse)?.to_owned();
    name.push(".new");
    let early = socket.with_file_name(name);
    // Linux keeps 108 bytes for the name, the last of them zero.
    if early.as_os_str().len() > 107 {
        return Err(refuse());
    }
    let _ = std::fs::remove_file(&early);
    let listener = UnixListener::bind(&early).map_err(failed(&early))?;
    std::fs::set_permissions(&early, std::fs::Permissions::from_mode(0o600)).map_err(failed(&early))?;
    std::fs::rename(&early, socket).map_err(failed(socket))?;
    Ok(listener)
}

async fn serve(listener: UnixListener, service: Service, mut stopped: watch::Receiver<bool>) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, in practice: give the others time to end.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (service, mut stopped) = (service.clone(), stopped.clone());
        tokio::spawn(async move {
            tokio::select! {
                _ = tokio::time::timeout(CONNECTION_LIFE, service.connection(stream)) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
            drop(permit);
        });
    }
}

#[derive(Clone)]
struct Service {
    machine: Arc<Machine>,
    meter: ProcessMeter,
}

/// Why a request was refused: a status and a reason.
struct Refusal(StatusCode, String);

impl Refusal {
    fn bad(reason: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, reason.into())
    }
}

#[derive(Deserialize)]
struct QuoteRequest {
    #[serde(default)]
    report_data: String,
}

impl QuoteRequest {
    /// The report data, filled up with zeros.
    fn report_data(&self) -> Result<[u8; 64], Refusal> {
        let digits = self.report_data.strip_prefix("0x").unwrap_or(&self.report_data);
        let given = hex::decode(digits).map_err(|_| Refusal::bad("report_data is not hex"))?;
        let mut report_data = [0; 64];
        let place =
            report_data.get_mut(..given.len()).ok_or_else(|| Refusal::bad("report_data has more than 64 bytes"))?;
        place.copy_from_slice(&given);
        Ok(report_data)
    }
}

#[derive(Deserialize)]
struct KeyRequest {
    #[serde(default)]
    path: String,
    #[serde(default)]
    algorithm: String,
    /// Another measurement whose key is asked for; refused until a policy can name successors.
    #[serde(default)]
    measurement: Option<Value>,
}

impl Service {
    async fn connection(&self, stream: UnixStream) {
        let caller = match stream.peer_cred() {
            Ok(credentials) => Caller { pid: credentials.pid(), uid: credentials.uid() },
            Err(_) => return,
        };
        let handler =
            service_fn(|request| async move { Ok::<_, std::convert::Infallible>(self.respond(caller, request).await) });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            // Some clients of guest agents close their half after the request.
            .half_close(true)
            .header_read_timeout(Duration::from_secs(10))
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), handler)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "a connection ended early");
        }
    }

    async fn respond(&self, caller: Caller, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (status, body) = match self.answer(caller, request).await {
            Ok(body) => (StatusCode::OK, body),
            Err(Refusal(status, reason)) => (status, json!({ "error": reason })),
        };
        let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
        response
    }

    async fn answer(&self, caller: Caller, request: Request<Incoming>) -> Result<Value, Refusal> {
        let own_uid = rustix::process::getuid().as_raw();
        if caller.uid != own_uid && caller.uid != 0 {
            return Err(Refusal(StatusCode::FORBIDDEN, "this machine is another user's".into()));
        }
        if request.method() != Method::POST {
            return Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, "use POST".into()));
        }
        let method = request.uri().path().to_owned();
        let body = Limited::new(request.into_body(), MAX_BODY)
            .collect()
            .await
            .map_err(|_| {
                Refusal(StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {MAX_BODY} bytes or broke off"))
            })?
            .to_bytes();
        match method.as_str() {
            "/GetQuote" => {
                let request: QuoteRequest = parse(&body)?;
                self.quote(self.measure(caller).await?, &request)
            }
            "/GetKey" => {
                let request: KeyRequest = parse(&body)?;
                self.key(self.measure(caller).await?, &request)
            }
            "/Info" => Ok(self.info(self.measure(caller).await?)),
            "/v1/Attest" => {
                let request: QuoteRequest = parse(&body)?;
                self.attest(self.measure(caller).await?, &request)
            }
            "/Version" => Ok(json!({ "version": env!("CARGO_PKG_VERSION"), "rev": "SIMULATED" })),
            "/Collateral" => {
                let collateral = self.machine.collateral(now()).map_err(internal)?;
                serde_json::to_value(collateral).map_err(|_| internal("no JSON form"))
            }
            _ => Err(Refusal(StatusCode::NOT_FOUND, "no such method".into())),
        }
    }

    /// The digest of the executable that the caller runs.
    async fn measure(&self, caller: Caller) -> Result<[u8; 48], Refusal> {
        let refuse = || Refusal(StatusCode::FORBIDDEN, "the calling process cannot be measured".into());
        let pid = caller.pid.filter(|pid| *pid > 0).ok_or_else(refuse)?;
        let meter = self.meter.clone();
        let digest = tokio::task::spawn_blocking(move || meter.digest(pid)).await;
        digest.map_err(|_| refuse())?.map_err(|_| refuse())
    }

    /// The evidence in the MessagePack of guest API version 1. It knows no enclaves: those are asked for a quote.
    fn attest(&self, executable: [u8; 48], request: &QuoteRequest) -> Result<Value, Refusal> {
        let report_data = request.report_data()?;
        let evidence = self.machine.quote(executable, &report_data).map_err(internal)?;
        let document = evidence.document();
        let platform = match self.machine.hardware() {
            Hardware::Tdx => {
                let log: Value = serde_json::from_str(&self.machine.event_log()).unwrap_or_default();
                let events: Vec<Value> = log.as_array().into_iter().flatten().map(with_bytes).collect();
                json!({ "kind": "tdx", "data": { "quote": document, "event_log": events } })
            }
            Hardware::SevSnp { .. } => {
                json!({ "kind": "sev-snp", "data": { "report": document, "cert_chain": [], "mr_config": "{}" } })
            }
            Hardware::Sgx => return Err(Refusal::bad("an enclave has no attestation, only a quote")),
        };
        let stack = json!({
            "kind": "dstack",
            "data": { "report_data": report_data.as_slice(), "runtime_events": [], "config": "{}" },
        });
        let attestation = json!({ "version": 1, "platform": platform, "stack": stack });
        let packed = rmp_serde::to_vec_named(&attestation).map_err(internal)?;
        Ok(json!({ "attestation": hex::encode(packed), "boottime_gpu_evidence": [] }))
    }

    fn quote(&self, executable: [u8; 48], request: &QuoteRequest) -> Result<Value, Refusal> {
        let report_data = request.report_data()?;
        let evidence = self.machine.quote(executable, &report_data).map_err(internal)?;
        Ok(json!({
            "quote": hex::encode(evidence.document()),
            "event_log": evidence.event_log().unwrap_or_default(),
            "report_data": hex::encode(report_data),
            "vm_config": "{}",
        }))
    }

    fn key(&self, executable: [u8; 48], request: &KeyRequest) -> Result<Value, Refusal> {
        if !matches!(request.algorithm.as_str(), "" | "secp256k1" | "k256" | "ed25519") {
            return Err(Refusal::bad("unknown algorithm"));
        }
        if request.path.len() > MAX_KEY_PATH {
            return Err(Refusal::bad(format!("path has more than {MAX_KEY_PATH} bytes")));
        }
        if request.measurement.is_some() {
            return Err(Refusal::bad("keys of other measurements are not given"));
        }
        let key = self.machine.seal_key(executable, &request.path);
        Ok(json!({ "key": hex::encode(key.as_slice()), "signature_chain": [] }))
    }

    fn info(&self, executable: [u8; 48]) -> Value {
        let (machine, application) = (&self.machine, self.machine.application());
        let event_log: Value = serde_json::from_str(&machine.event_log()).unwrap_or_default();
        let measurement = hex::encode(machine.measurement(executable));
        let (compose_hash, image_hash) = (hex::encode(application.compose_hash), hex::encode(application.image_hash));
        let mut tcb_info = json!({
            "mrtd": "", "rtmr0": "", "rtmr1": "", "rtmr2": "", "rtmr3": "",
            "mr_aggregated": measurement,
            "os_image_hash": image_hash, "compose_hash": compose_hash, "device_id": machine.chip(),
            "event_log": event_log, "app_compose": application.compose,
        });
        match machine.hardware() {
            Hardware::Tdx => {
                let registers = machine.registers(executable);
                tcb_info["mrtd"] = hex::encode(registers.mrtd).into();
                for (name, register) in ["rtmr0", "rtmr1", "rtmr2", "rtmr3"].into_iter().zip(registers.rtmr) {
                    tcb_info[name] = hex::encode(register).into();
                }
            }
            Hardware::Sgx => tcb_info["mrenclave"] = hex::encode(machine.guest().enclave(executable)).into(),
            Hardware::SevSnp { .. } => tcb_info["measurement"] = hex::encode(machine.guest().launch(executable)).into(),
        }
        json!({
            "app_id": hex::encode(application.id),
            "instance_id": hex::encode(application.instance),
            "device_id": machine.chip(),
            "mr_aggregated": measurement,
            "os_image_hash": image_hash, "compose_hash": compose_hash, "app_cert": "",
            "app_name": machine.name(),
            "key_provider_info": application.key_provider(), "vm_config": "{}",
            "cloud_vendor": "SIMULATED", "cloud_product": format!("SIMULATED {}", machine.hardware().name()),
            "tcb_info": tcb_info.to_string(),
        })
    }
}

/// An event whose digest and payload are bytes in place of hex.
fn with_bytes(event: &Value) -> Value {
    let mut event = event.clone();
    for name in ["digest", "event_payload"] {
        let bytes = event[name].as_str().and_then(|digits| hex::decode(digits).ok()).unwrap_or_default();
        event[name] = json!(bytes);
    }
    event
}

/// Who connected, by the kernel's word.
#[derive(Clone, Copy)]
struct Caller {
    pid: Option<i32>,
    uid: u32,
}

/// An empty body is an empty request.
fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    let body = if body.iter().all(u8::is_ascii_whitespace) { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| Refusal::bad(format!("the body is not the expected JSON: {error}")))
}

fn internal(error: impl std::fmt::Display) -> Refusal {
    tracing::error!(%error, "a request failed");
    Refusal(StatusCode::INTERNAL_SERVER_ERROR, "the machine failed".into())
}

fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixTime(since.map_or(0, |elapsed| elapsed.as_secs()))
}
