//! Looks at the compiled code with valgrind: it knows of each bit whether it depends on a secret, and reports every branch and every
//! address that does.
//!
//! One test does the look-ups on secrets. The other runs it under valgrind, where there is one, and fails for what that reports.

use std::process::Command;

use super::{
    Entry, Pieces, Rows, Tokenizer, Word, highest,
    scan::{Column, contains, within},
};
use crate::gguf::{self, Metadata};

/// The same value, of which valgrind is told that nobody knows it. Without valgrind this does nothing.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn secret<T: Copy>(value: T) -> T {
    /// `VALGRIND_MAKE_MEM_UNDEFINED` of memcheck.
    const UNDEFINED: u64 = ((b'M' as u64) << 24 | (b'C' as u64) << 16) + 1;
    let mut value = value;
    let place = &raw mut value;
    let request = [UNDEFINED, place as u64, size_of::<T>() as u64, 0, 0, 0];
    let mut _answer = 0_u64;
    // SAFETY: four rotations by 128 bits together and an exchange of a register with itself change nothing. Valgrind knows the
    // sequence, reads the request and notes something about memory that stays as it is. The value is read again from there, for the
    // note is not about what a register still holds.
    unsafe {
        std::arch::asm!(
            "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
            in("rax") &request, inout("rdx") _answer, options(nostack)
        );
        place.read_volatile()
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn secret<T: Copy>(value: T) -> T {
    value
}

/// Letters, all pairs of some of them, and some longer words.
fn vocabulary() -> (Vec<Entry>, Vec<String>) {
    let mut texts: Vec<String> = (b'!'..=b'~').map(|byte| char::from(byte).to_string()).collect();
    let mut merges = Vec::new();
    for first in "etaoins".chars() {
        for second in "etaoins".chars() {
            merges.push(format!("{first} {second}"));
        }
    }
    merges.extend(["st at", "stat e", "state s"].map(str::to_owned));
    texts.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    texts.push("a-token-of-more-than-sixteen-bytes".to_owned());
    (texts.into_iter().map(|text| Entry { text, kind: Word::Plain }).collect(), merges)
}

#[test]
fn look_ups_of_secrets() {
    let (entries, merges) = vocabulary();
    let tokenizer = Tokenizer::new("gpt-2", &entries, &merges).unwrap();
    let texts: Vec<Vec<u8>> = entries.iter().map(|entry| entry.text.clone().into_bytes()).collect();
    let pieces = Pieces::new(&texts, vec![3, 4], vec![5]).unwrap();

    let word = secret(*b"statesmanship");
    let tokens = std::hint::black_box(tokenizer.merged(&word));
    assert_eq!(tokens.len(), word.len());

    let classes = Column::new(&[65, 97], u32::MAX);
    for token in [7_u32, 97, 146].map(secret) {
        std::hint::black_box((
            pieces.filled(token, false),
            pieces.is_end(token),
            within(&classes, &classes, token),
            contains(&[1, 2, 3], token),
        ));
    }
    let found = (pieces.find(&secret(*b"st")), pieces.find(&secret(*b"a-token-of-more-than-sixteen-bytes")));
    std::hint::black_box((
        found,
        highest(&secret([
            1.0_f32, 3.0, 2.0, -5.0, 0.5, 9.0, 4.0, 4.5, 8.0, 7.0, 6.0, 0.0, 2.5, 1.5, 9.5, 3.5, 7.5, 5.0, 2.0,
        ])),
    ));

    let mut file = Vec::new();
    let values = (0..600).map(|value| value as f32).collect();
    let matrix = [("token_embd.weight".to_owned(), vec![4, 150], values)];
    gguf::write(&mut file, &[("general.architecture", Metadata::Text("llama".into()))], &matrix).unwrap();
    let digest = tacit_types::formats::sha256(&file);
    let file = crate::store::CheckedFile::from_reader(file.as_slice(), digest, file.len() as u64).unwrap();
    let header = gguf::read(file.open().unwrap(), file.size()).unwrap();
    let mut rows = Rows::new(&file, &header).unwrap();
    rows.gather(&secret([149, 0, 77]));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn no_branch_and_no_address_tells_a_secret() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new("valgrind");
        command.args(["--error-exitcode=9", "--error-limit=no", "--quiet"]).arg(std::env::current_exe().unwrap());
        command.args(["--exact", "--test-threads=1"]).args(arguments).output()
    };
    let hidden = match run(&["oblivious::tests::look_ups_of_secrets"]) {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            assert!(std::env::var_os("CI").is_none(), "valgrind is missing; bootstrap.sh installs it");
            println!("not tested: valgrind is not there");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let said = |output: &std::process::Output| String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(hidden.status.success(), "{}", said(&hidden));
    assert!(String::from_utf8_lossy(&hidden.stdout).contains("1 passed"), "{hidden:?}");
    // It would have seen one.
    let told = run(&["--ignored", "oblivious::tests::a_branch_on_a_secret"]).unwrap();
    assert_eq!(told.status.code(), Some(9), "{}", said(&told));
    assert!(said(&told).contains("depends on uninitialised value"), "{}", said(&told));
}

/// What must be seen, so that seeing nothing means something.
#[test]
#[ignore = "run by no_branch_and_no_address_tells_a_secret, under valgrind"]
fn a_branch_on_a_secret() {
    if secret(7_u32) > 3 {
        std::hint::black_box(1);
    }
}
