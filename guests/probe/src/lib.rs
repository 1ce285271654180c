//! A component that misbehaves in every way a limit is for.

// The generated import of `chain.publish` takes each text as two arguments.
#![allow(clippy::too_many_arguments)]

wit_bindgen::generate!({ path: "../wit", world: "function" });

use std::collections::HashMap;
use std::hint::black_box;

use tacit::function::{chain, clock, http, log, random, request, secrets, state};

struct Probe;

const CONTRACT: &str = "0x0101010101010101010101010101010101010101";

const METHODS: [&str; 16] = [
    "loop", "allocate", "recurse", "panic", "large", "flood", "ask", "fetches", "write", "random", "hash", "file",
    "parallel", "about", "publish", "publish-many",
];

impl Guest for Probe {
    fn methods() -> Vec<String> {
        METHODS.map(str::to_owned).to_vec()
    }

    fn call(method: String, input: Vec<u8>) -> Result<Vec<u8>, Failure> {
        Ok(match method.as_str() {
            "loop" => loop {
                black_box(&input);
            },
            "allocate" => {
                let mut kept = Vec::new();
                loop {
                    kept.push(black_box(vec![1u8; 1 << 20]));
                }
            }
            "recurse" => recurse(black_box(0)).to_string().into_bytes(),
            "panic" => panic!("as asked"),
            "large" => vec![b'x'; 8 << 20],
            "flood" => loop {
                log::write(log::Level::Info, "flood flood flood flood flood flood flood");
            },
            "ask" => loop {
                black_box(clock::now());
            },
            "fetches" => loop {
                http::start_fetch(&get("https://slow.example/")).map_err(failed)?;
            },
            "write" => {
                state::set("key", &input).map_err(failed)?;
                Vec::new()
            }
            "random" => random::bytes(32),
            // The standard library's hasher is seeded by the host.
            "hash" => {
                let map: HashMap<u32, ()> = (0..16).map(|number| (number, ())).collect();
                map.keys().map(|key| *key as u8).collect()
            }
            "file" => std::fs::read("/etc/passwd").map_err(|error| failure(error.to_string()))?,
            "parallel" => {
                let ids = [
                    http::start_fetch(&get("https://slow.example/a")).map_err(failed)?,
                    http::start_fetch(&get("https://slow.example/b")).map_err(failed)?,
                ];
                let mut left = ids.to_vec();
                let mut bodies = Vec::new();
                while let Some((id, answer)) = http::wait_any(&left, None) {
                    left.retain(|other| *other != id);
                    bodies.extend(answer.map_err(failed)?.body);
                }
                bodies
            }
            "publish" => {
                let mut sequences = Vec::new();
                for topic in ["one", "one", "two"] {
                    let sequence = chain::publish("local", CONTRACT, topic, &input).map_err(failed)?;
                    sequences.push(sequence.to_string());
                }
                sequences.join(" ").into_bytes()
            }
            "publish-many" => loop {
                chain::publish("local", CONTRACT, "many", &input).map_err(failed)?;
            },
            "about" => format!("{:?} {:?}", request::current(), secrets::get("KEY").map_err(failed)?).into_bytes(),
            _ => return Err(failure(format!("no method {method}"))),
        })
    }
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 32]);
    recurse(depth + 1) + frame[7]
}

fn get(url: &str) -> http::Request {
    http::Request {
        method: "GET".into(),
        url: url.into(),
        headers: Vec::new(),
        body: None,
        redirect: http::Redirect::Follow,
    }
}

fn failed(error: state::HostError) -> Failure {
    failure(format!("{error:?}"))
}

fn failure(message: String) -> Failure {
    Failure { name: "Error".into(), message, stack: None }
}

export!(Probe);
