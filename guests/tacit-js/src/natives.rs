//! What the prelude's JavaScript cannot do itself: the host's powers, text codecs, URLs, digests, randomness.

use std::sync::atomic::{AtomicBool, Ordering};

use rquickjs::function::Func;
use rquickjs::{Array, Ctx, Error, Exception, FromJs, IntoJs, Object, Result, TypedArray, Value};
use sha2::Digest;
use url::{Url, form_urlencoded, quirks};

use crate::random;
use crate::tacit::function::types::HostError;
use crate::tacit::function::{chain, clock, http, log, model, request, secrets, state};

/// Set as soon as the host can be asked: not while the image is made.
pub static HOST: AtomicBool = AtomicBool::new(false);

/// The engine's only import, answered here: microseconds since 1970.
#[unsafe(no_mangle)]
pub extern "C" fn __rquickjs_host_now_us() -> f64 {
    if HOST.load(Ordering::Relaxed) { clock::now() as f64 } else { 0.0 }
}

/// Bytes that cross between Rust and JavaScript by copy, as a `Uint8Array`.
pub struct Bytes(pub Vec<u8>);

impl<'js> IntoJs<'js> for Bytes {
    fn into_js(self, ctx: &Ctx<'js>) -> Result<Value<'js>> {
        TypedArray::new(ctx.clone(), self.0).map(TypedArray::into_value)
    }
}

impl<'js> FromJs<'js> for Bytes {
    fn from_js(ctx: &Ctx<'js>, value: Value<'js>) -> Result<Self> {
        let array = TypedArray::<u8>::from_value(value)?;
        // SAFETY: the slice is copied before any JavaScript runs again.
        let bytes = unsafe { array.as_bytes() };
        bytes.map(|bytes| Self(bytes.to_vec())).ok_or_else(|| Exception::throw_type(ctx, "the buffer is detached"))
    }
}

/// A value or `null`.
struct Nullable<T>(Option<T>);

impl<'js, T: IntoJs<'js>> IntoJs<'js> for Nullable<T> {
    fn into_js(self, ctx: &Ctx<'js>) -> Result<Value<'js>> {
        match self.0 {
            Some(value) => value.into_js(ctx),
            None => Ok(Value::new_null(ctx.clone())),
        }
    }
}

/// An `Error` whose `code` a program can compare.
fn error_value<'js>(ctx: &Ctx<'js>, error: HostError) -> Result<Value<'js>> {
    let (code, message) = match error {
        HostError::ReadOnly => {
            ("state-read-only", "a query cannot write state or publish; declare the method as a command".to_owned())
        }
        HostError::Denied(message) => ("denied", message),
        HostError::Invalid(message) => ("invalid", message),
        HostError::Unavailable(message) => ("unavailable", message),
    };
    let object = Exception::from_message(ctx.clone(), &format!("{code}: {message}"))?.into_object();
    object.set("name", "TacitError")?;
    object.set("code", code)?;
    Ok(object.into_value())
}

fn thrown(ctx: &Ctx<'_>, error: HostError) -> Error {
    match error_value(ctx, error) {
        Ok(value) => ctx.throw(value),
        Err(error) => error,
    }
}

/// The object that the prelude calls `native`.
pub fn object<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    let native = Object::new(ctx.clone())?;
    text(&native)?;
    urls(&native)?;
    randomness(&native)?;
    durable(&native)?;
    models(&native)?;
    outputs(&native)?;
    surroundings(&native)?;
    exchanges(&native)?;
    Ok(native)
}

fn text(native: &Object<'_>) -> Result<()> {
    fn decode(ctx: Ctx<'_>, bytes: Bytes, fatal: bool, keep_mark: bool) -> Result<String> {
        let bytes = if keep_mark { &bytes.0[..] } else { bytes.0.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes.0) };
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) if fatal => Err(Exception::throw_type(&ctx, "TextDecoder: the data is not valid utf-8")),
            Err(_) => Ok(String::from_utf8_lossy(bytes).into_owned()),
        }
    }
    fn decode16(ctx: Ctx<'_>, bytes: Bytes, fatal: bool, keep_mark: bool) -> Result<String> {
        let (pairs, rest) = bytes.0.as_chunks::<2>();
        let units = pairs.iter().map(|pair| u16::from_le_bytes(*pair));
        let skip = usize::from(!keep_mark && units.clone().next() == Some(0xfeff));
        let mut text = String::with_capacity(pairs.len());
        let mut broken = !rest.is_empty();
        for unit in char::decode_utf16(units.skip(skip)) {
            broken |= unit.is_err();
            text.push(unit.unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        if !rest.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
        if broken && fatal {
            return Err(Exception::throw_type(&ctx, "TextDecoder: the data is not valid utf-16"));
        }
        Ok(text)
    }
    /// How many bytes at the end begin a character that is not complete.
    fn tail(bytes: Bytes) -> u32 {
        let bytes = &bytes.0[bytes.0.len().saturating_sub(3)..];
        (1..=bytes.len())
            .find(|&length| match bytes[bytes.len() - length] {
                0xc2..=0xdf => length < 2,
                0xe0..=0xef => length < 3,
                0xf0..=0xf4 => length < 4,
                _ => false,
            })
            .map_or(0, |length| length as u32)
    }
    native.set("utf8Encode", Func::from(|text: String| Bytes(text.into_bytes())))?;
    native.set("utf8Decode", Func::from(decode))?;
    native.set("utf8Tail", Func::from(tail))?;
    native.set("utf16Decode", Func::from(decode16))
}

fn urls(native: &Object<'_>) -> Result<()> {
    fn parse(url: String, base: Option<String>) -> Nullable<String> {
        let base = match base.map(|base| Url::parse(&base)) {
            None => None,
            Some(Ok(base)) => Some(base),
            Some(Err(_)) => return Nullable(None),
        };
        Nullable(Url::options().base_url(base.as_ref()).parse(&url).ok().map(String::from))
    }
    fn get(ctx: Ctx<'_>, href: String, part: String) -> Result<String> {
        let url = reparse(&ctx, &href)?;
        Ok(match part.as_str() {
            "protocol" => quirks::protocol(&url).to_owned(),
            "username" => quirks::username(&url).to_owned(),
            "password" => quirks::password(&url).to_owned(),
            "host" => quirks::host(&url).to_owned(),
            "hostname" => quirks::hostname(&url).to_owned(),
            "port" => quirks::port(&url).to_owned(),
            "pathname" => quirks::pathname(&url).to_owned(),
            "search" => quirks::search(&url).to_owned(),
            "hash" => quirks::hash(&url).to_owned(),
            _ => quirks::origin(&url),
        })
    }
    // The standard's setters ignore what they cannot take, so their results say nothing.
    fn set(ctx: Ctx<'_>, href: String, part: String, value: String) -> Result<String> {
        let mut url = reparse(&ctx, &href)?;
        let _ = match part.as_str() {
            "protocol" => quirks::set_protocol(&mut url, &value),
            "username" => quirks::set_username(&mut url, &value),
            "password" => quirks::set_password(&mut url, &value),
            "host" => quirks::set_host(&mut url, &value),
            "hostname" => quirks::set_hostname(&mut url, &value),
            "port" => quirks::set_port(&mut url, &value),
            "pathname" => {
                quirks::set_pathname(&mut url, &value);
                Ok(())
            }
            "search" => {
                quirks::set_search(&mut url, &value);
                Ok(())
            }
            _ => {
                quirks::set_hash(&mut url, &value);
                Ok(())
            }
        };
        Ok(String::from(url))
    }
    fn reparse(ctx: &Ctx<'_>, href: &str) -> Result<Url> {
        Url::parse(href).map_err(|error| Exception::throw_type(ctx, &error.to_string()))
    }
    fn form_parse(bytes: Bytes) -> Vec<String> {
        form_urlencoded::parse(&bytes.0).flat_map(|(name, value)| [name.into_owned(), value.into_owned()]).collect()
    }
    fn form_serialize(flat: Vec<String>) -> String {
        let mut serializer = form_urlencoded::Serializer::new(String::new());
        serializer.extend_pairs(flat.as_chunks::<2>().0.iter().map(|[name, value]| (name, value)));
        serializer.finish()
    }
    native.set("urlParse", Func::from(parse))?;
    native.set("urlGet", Func::from(get))?;
    native.set("urlSet", Func::from(set))?;
    native.set("formParse", Func::from(form_parse))?;
    native.set("formSerialize", Func::from(form_serialize))
}

fn randomness(native: &Object<'_>) -> Result<()> {
    fn bytes(ctx: Ctx<'_>, length: u32) -> Result<Bytes> {
        let mut bytes = vec![0; length as usize];
        if random::fill(&mut bytes) { Ok(Bytes(bytes)) } else { Err(unseeded(&ctx)) }
    }
    fn unseeded(ctx: &Ctx<'_>) -> Error {
        thrown(ctx, HostError::Denied("there is no randomness while a function is compiled".into()))
    }
    fn digest(algorithm: String, data: Bytes) -> Nullable<Bytes> {
        Nullable(Some(Bytes(match algorithm.as_str() {
            "SHA-1" => sha1::Sha1::digest(&data.0).to_vec(),
            "SHA-256" => sha2::Sha256::digest(&data.0).to_vec(),
            "SHA-384" => sha2::Sha384::digest(&data.0).to_vec(),
            "SHA-512" => sha2::Sha512::digest(&data.0).to_vec(),
            _ => return Nullable(None),
        })))
    }
    native.set("random", Func::from(bytes))?;
    native.set("randomUnit", Func::from(|ctx: Ctx<'_>| random::unit().ok_or_else(|| unseeded(&ctx))))?;
    native.set("digest", Func::from(digest))
}

fn durable(native: &Object<'_>) -> Result<()> {
    fn get(ctx: Ctx<'_>, key: String) -> Result<Nullable<Bytes>> {
        state::get(&key).map(|value| Nullable(value.map(Bytes))).map_err(|error| thrown(&ctx, error))
    }
    fn list<'js>(ctx: Ctx<'js>, prefix: String, after: Option<String>, limit: f64) -> Result<Array<'js>> {
        let entries = state::list(&prefix, after.as_deref(), limit as u32).map_err(|error| thrown(&ctx, error))?;
        let flat = Array::new(ctx)?;
        for (index, (key, value)) in entries.into_iter().enumerate() {
            flat.set(2 * index, key)?;
            flat.set(2 * index + 1, Bytes(value))?;
        }
        Ok(flat)
    }
    native.set("stateGet", Func::from(get))?;
    native.set(
        "stateSet",
        Func::from(|ctx: Ctx<'_>, key: String, value: Bytes| {
            state::set(&key, &value.0).map_err(|error| thrown(&ctx, error))
        }),
    )?;
    native.set(
        "stateDelete",
        Func::from(|ctx: Ctx<'_>, key: String| state::delete(&key).map_err(|error| thrown(&ctx, error))),
    )?;
    native.set("stateList", Func::from(list))?;
    native.set("stateBegin", Func::from(|ctx: Ctx<'_>| state::begin().map_err(|error| thrown(&ctx, error))))?;
    native.set("stateCommit", Func::from(|ctx: Ctx<'_>| state::commit().map_err(|error| thrown(&ctx, error))))?;
    native.set("stateRollback", Func::from(|ctx: Ctx<'_>| state::rollback().map_err(|error| thrown(&ctx, error))))
}

fn outputs(native: &Object<'_>) -> Result<()> {
    fn publish(ctx: Ctx<'_>, chain: String, contract: String, topic: String, data: Bytes) -> Result<f64> {
        let sequence = chain::publish(&chain, &contract, &topic, &data.0);
        sequence.map(|sequence| sequence as f64).map_err(|error| thrown(&ctx, error))
    }
    native.set("chainPublish", Func::from(publish))
}

fn models(native: &Object<'_>) -> Result<()> {
    const ELEMENTS: [(&str, model::Element); 11] = [
        ("float32", model::Element::Float32),
        ("float64", model::Element::Float64),
        ("int8", model::Element::Int8),
        ("int16", model::Element::Int16),
        ("int32", model::Element::Int32),
        ("int64", model::Element::Int64),
        ("uint8", model::Element::Uint8),
        ("uint16", model::Element::Uint16),
        ("uint32", model::Element::Uint32),
        ("uint64", model::Element::Uint64),
        ("boolean", model::Element::Boolean),
    ];
    fn start(ctx: Ctx<'_>, task: u32, request: Bytes) -> Result<u32> {
        let task = match task {
            0 => model::Task::Chat,
            1 => model::Task::Complete,
            _ => model::Task::Embed,
        };
        model::start(task, &request.0).map_err(|error| thrown(&ctx, error))
    }
    /// A list of `[name, element, shape, bytes]`.
    fn run<'js>(
        ctx: Ctx<'js>,
        name: String,
        inputs: Vec<String>,
        elements: Vec<String>,
        shapes: Vec<Vec<f64>>,
        data: Vec<Bytes>,
    ) -> Result<Array<'js>> {
        let parts = inputs.into_iter().zip(elements).zip(shapes).zip(data);
        let mut tensors = Vec::new();
        for (((name, element), shape), data) in parts {
            let Some((_, element)) = ELEMENTS.iter().find(|(known, _)| *known == element) else {
                return Err(Exception::throw_type(&ctx, "model.run: an unknown type of elements"));
            };
            if !shape.iter().all(|axis| axis.fract() == 0.0 && (0.0..=u32::MAX as f64).contains(axis)) {
                return Err(Exception::throw_type(&ctx, "model.run: a shape is a list of whole numbers"));
            }
            let shape = shape.into_iter().map(|axis| axis as u32).collect();
            tensors.push(model::Tensor { name, element: *element, shape, data: data.0 });
        }
        let outputs = model::run(&name, &tensors).map_err(|error| thrown(&ctx, error))?;
        let list = Array::new(ctx.clone())?;
        for (index, output) in outputs.into_iter().enumerate() {
            let element = ELEMENTS.iter().find(|(_, known)| *known == output.element).map_or("", |(name, _)| name);
            let tensor = Array::new(ctx.clone())?;
            tensor.set(0, output.name)?;
            tensor.set(1, element)?;
            tensor.set(2, output.shape)?;
            tensor.set(3, Bytes(output.data))?;
            list.set(index, tensor)?;
        }
        Ok(list)
    }
    native.set("modelStart", Func::from(start))?;
    native.set("modelRun", Func::from(run))
}

fn surroundings(native: &Object<'_>) -> Result<()> {
    fn write(level: u32, message: String) {
        let level = match level {
            0 => log::Level::Debug,
            1 => log::Level::Info,
            2 => log::Level::Warn,
            _ => log::Level::Error,
        };
        log::write(level, &message);
    }
    fn info(ctx: Ctx<'_>) -> Result<Object<'_>> {
        let info = request::current();
        let object = Object::new(ctx)?;
        object.set("caller", Nullable(info.caller))?;
        object.set("callId", info.call_id)?;
        object.set("method", info.method)?;
        object.set("deadline", (info.deadline / 1000) as f64)?;
        object.set("trigger", Nullable(info.trigger))?;
        object.set("version", info.version as f64)?;
        Ok(object)
    }
    fn secret(ctx: Ctx<'_>, name: String) -> Result<Nullable<String>> {
        secrets::get(&name).map(Nullable).map_err(|error| thrown(&ctx, error))
    }
    native.set("now", Func::from(|| __rquickjs_host_now_us()))?;
    native.set("log", Func::from(write))?;
    native.set("request", Func::from(info))?;
    native.set("secretGet", Func::from(secret))
}

fn exchanges(native: &Object<'_>) -> Result<()> {
    fn start(
        ctx: Ctx<'_>,
        method: String,
        url: String,
        headers: Vec<String>,
        body: Option<Bytes>,
        redirect: String,
    ) -> Result<u32> {
        let request = http::Request {
            method,
            url,
            headers: headers.as_chunks::<2>().0.iter().cloned().map(|[name, value]| (name, value)).collect(),
            body: body.map(|body| body.0),
            redirect: match redirect.as_str() {
                "error" => http::Redirect::Error,
                "manual" => http::Redirect::Manual,
                _ => http::Redirect::Follow,
            },
        };
        http::start_fetch(&request).map_err(|error| thrown(&ctx, error))
    }
    /// `[id, error, null]` or `[id, null, [status, headers, body, url, redirected]]`; `null` once `due` has passed.
    fn wait<'js>(ctx: Ctx<'js>, ids: Vec<u32>, due: f64) -> Result<Nullable<Array<'js>>> {
        let deadline = (due >= 0.0).then_some(due as u64);
        let Some((id, outcome)) = http::wait_any(&ids, deadline) else { return Ok(Nullable(None)) };
        let answer = Array::new(ctx.clone())?;
        answer.set(0, id)?;
        match outcome {
            Err(error) => answer.set(1, error_value(&ctx, error)?)?,
            Ok(response) => {
                let parts = Array::new(ctx.clone())?;
                let headers: Vec<String> =
                    response.headers.into_iter().flat_map(|(name, value)| [name, value]).collect();
                parts.set(0, response.status)?;
                parts.set(1, headers)?;
                parts.set(2, Bytes(response.body))?;
                parts.set(3, response.url)?;
                parts.set(4, response.redirected)?;
                answer.set(1, Value::new_null(ctx.clone()))?;
                answer.set(2, parts)?;
            }
        }
        Ok(Nullable(Some(answer)))
    }
    native.set("startFetch", Func::from(start))?;
    native.set("wait", Func::from(wait))?;
    native.set("cancel", Func::from(|id: u32| http::cancel(id)))
}
