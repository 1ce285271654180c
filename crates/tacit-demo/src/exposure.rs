//! Step 4: who saw the plaintext. Searches files and the memory of processes for markers.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{ErrorKind, Read},
    os::unix::fs::FileExt,
    path::Path,
};

use aho_corasick::AhoCorasick;
use anyhow::{Context, Result};

/// How much is read at a time.
const CHUNK: usize = 4 << 20;

/// Markers of plaintext and how long the longest is.
pub struct Markers {
    automaton: AhoCorasick,
    longest: usize,
}

impl Markers {
    /// A searcher for these texts.
    pub fn new(texts: &[String]) -> Result<Self> {
        let automaton = AhoCorasick::new(texts).context("the markers cannot be searched for")?;
        Ok(Self { automaton, longest: texts.iter().map(String::len).max().unwrap_or(0) })
    }

    /// Adds to `found` the index of every marker that stands in `bytes`.
    fn search(&self, bytes: &[u8], found: &mut BTreeSet<usize>) {
        found.extend(self.automaton.find_overlapping_iter(bytes).map(|hit| hit.pattern().as_usize()));
    }

    /// The markers that stand in one file.
    pub fn in_file(&self, path: &Path) -> Result<BTreeSet<usize>> {
        let mut file = File::open(path).with_context(|| path.display().to_string())?;
        let (mut found, mut buffer, mut kept) = (BTreeSet::new(), vec![0; CHUNK + self.longest], 0);
        loop {
            let read = file.read(&mut buffer[kept..]).with_context(|| path.display().to_string())?;
            if read == 0 {
                return Ok(found);
            }
            let filled = kept + read;
            self.search(&buffer[..filled], &mut found);
            // The end of this chunk may hold the beginning of a marker.
            let keep = filled.min(self.longest.saturating_sub(1));
            buffer.copy_within(filled - keep..filled, 0);
            kept = keep;
        }
    }

    /// The markers in all files below a folder, and how many files and bytes were read.
    pub fn in_folder(&self, folder: &Path) -> Result<Searched> {
        let mut searched = Searched::default();
        let mut waiting = vec![folder.to_owned()];
        while let Some(path) = waiting.pop() {
            let kind = path.symlink_metadata().with_context(|| path.display().to_string())?;
            if kind.is_dir() {
                for entry in std::fs::read_dir(&path)? {
                    waiting.push(entry?.path());
                }
            } else if kind.is_file() {
                searched.found.extend(self.in_file(&path)?);
                searched.places += 1;
                searched.bytes += kind.len();
            }
        }
        Ok(searched)
    }

    /// The markers in the memory of a process; needs the right to read it (root).
    pub fn in_memory(&self, pid: u32) -> Result<Searched> {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).with_context(|| format!("process {pid}"))?;
        let memory = File::open(format!("/proc/{pid}/mem")).with_context(|| format!("the memory of process {pid}"))?;
        let mut searched = Searched::default();
        let mut buffer = vec![0; CHUNK + self.longest];
        for (start, end) in maps.lines().filter_map(readable_region) {
            let mut position = start;
            while position < end {
                let wanted = usize::try_from(end - position).unwrap_or(usize::MAX).min(buffer.len());
                match memory.read_at(&mut buffer[..wanted], position) {
                    // A region that went away or has no pages behind it holds nothing.
                    Ok(0) => break,
                    Err(error) if matches!(error.raw_os_error(), Some(5 | 14)) => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error).with_context(|| format!("the memory of process {pid}")),
                    Ok(read) => {
                        self.search(&buffer[..read], &mut searched.found);
                        searched.bytes += read as u64;
                        position += read.saturating_sub(self.longest.saturating_sub(1)).max(1) as u64;
                        if read < wanted || position + self.longest as u64 > end {
                            break;
                        }
                    }
                }
            }
            searched.places += 1;
        }
        Ok(searched)
    }
}

/// What a search found and how much it read.
#[derive(Debug, Default)]
pub struct Searched {
    /// Indices of the markers found.
    pub found: BTreeSet<usize>,
    /// Files or regions of memory.
    pub places: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Searched {
    /// Adds another search to this one.
    pub fn add(&mut self, other: Self) {
        self.found.extend(other.found);
        self.places += other.places;
        self.bytes += other.bytes;
    }
}

/// Start and end of a line of `/proc/<pid>/maps` that can be read, except the kernel's own pages.
fn readable_region(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_whitespace();
    let (range, permissions) = (words.next()?, words.next()?);
    if !permissions.starts_with('r')
        || line.ends_with("[vvar]")
        || line.ends_with("[vsyscall]")
        || line.contains("[vvar_")
    {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn markers() -> Markers {
        Markers::new(&["12.45,15.7,82.57".into(), "never written".into()]).unwrap()
    }

    #[test]
    fn a_marker_across_two_chunks_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = vec![b'.'; 2 * CHUNK];
        let place = CHUNK + markers().longest - 5;
        bytes[place..place + 16].copy_from_slice(b"12.45,15.7,82.57");
        std::fs::create_dir(folder.path().join("deep")).unwrap();
        std::fs::write(folder.path().join("deep/file"), &bytes).unwrap();
        let searched = markers().in_folder(folder.path()).unwrap();
        assert_eq!(searched.found, BTreeSet::from([0]));
        assert_eq!((searched.places, searched.bytes), (1, 2 * CHUNK as u64));
    }

    #[test]
    fn a_marker_in_memory_is_found() {
        // Built at run time, so that the program's own text does not hold it twice.
        let secret = format!("{}-{}", "marker", std::process::id());
        let markers = Markers::new(std::slice::from_ref(&secret)).unwrap();
        assert_eq!(markers.in_memory(std::process::id()).unwrap().found.len(), 1);
        drop(secret);
    }

    #[test]
    fn the_kernels_pages_are_left_out() {
        assert_eq!(readable_region("7ffd1000-7ffd3000 r--p 00000000 00:00 0 [vvar]"), None);
        assert_eq!(readable_region("1000-2000 ---p 00000000 00:00 0"), None);
        assert_eq!(readable_region("1000-2000 rw-p 00000000 00:00 0 [heap]"), Some((0x1000, 0x2000)));
    }
}
