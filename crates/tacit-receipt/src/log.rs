//! The append-only log of one worker: it keeps the right edge of the tree in memory and nothing else.

use tacit_types::Digest;

use crate::tile::{decode_entries, decode_hashes, encode_entries, encode_hashes};
use crate::tree::{empty_root, leaf_hash, node_hash, root_of, split};
use crate::{Checkpoint, ReceiptError, TILE_WIDTH, Tile, TileId, TileKind};

/// An append-only Merkle log. Memory: fewer than 256 hashes for each of at most eight levels, and what was appended since
/// the last [`Log::written`].
#[derive(Debug, Clone, Default)]
pub struct Log {
    size: u64,
    /// Entries of the right-most entries tile.
    entries: Vec<Digest>,
    /// Hashes of the right-most tile of each level; always fewer than 256.
    edge: Vec<Vec<Digest>>,
    /// Full tiles that are not known to be stored, with the size of the log when they became full.
    full: Vec<(u64, Tile)>,
    /// Size up to which everything is stored.
    written: u64,
}

/// What must be stored before a checkpoint of that size may be shown to anyone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Number of entries.
    pub size: u64,
    /// Root over them.
    pub root: Digest,
    /// Tiles to write, full ones first.
    pub tiles: Vec<Tile>,
}

impl Publication {
    /// The checkpoint to sign once the tiles are written.
    pub fn checkpoint(&self, origin: String) -> Checkpoint {
        Checkpoint { origin, size: self.size, root: self.root }
    }
}

impl Log {
    /// A log without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Continues the log of which `checkpoint` is the newest, reading the right edge from its tiles.
    ///
    /// # Errors
    /// [`ReceiptError::Tile`] for a missing or damaged tile, [`ReceiptError::Root`] if the tiles are of another log.
    pub fn resume(
        checkpoint: &Checkpoint,
        read: &mut dyn FnMut(&TileId) -> Option<Vec<u8>>,
    ) -> Result<Self, ReceiptError> {
        let size = checkpoint.size;
        let mut log = Self { size, written: size, ..Self::default() };
        let mut count = size;
        for level in 0u8.. {
            if count == 0 {
                break;
            }
            let (index, width) = (count / TILE_WIDTH, count % TILE_WIDTH);
            let mut hashes = Vec::new();
            if width > 0 {
                let id = TileId { kind: TileKind::Hashes(level), index, width };
                hashes = decode_hashes(&id, &fetch(&id, read)?)?;
            }
            if level == 0 && width > 0 {
                let id = TileId { kind: TileKind::Entries, index, width };
                log.entries = decode_entries(&id, &fetch(&id, read)?)?;
                if log.entries.iter().map(|entry| leaf_hash(*entry)).ne(hashes.iter().copied()) {
                    return Err(ReceiptError::Root);
                }
            }
            log.edge.push(hashes);
            count /= TILE_WIDTH;
        }
        if log.root() == checkpoint.root { Ok(log) } else { Err(ReceiptError::Root) }
    }

    /// How many entries there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a receipt's digest and gives its index.
    pub fn append(&mut self, receipt: Digest) -> u64 {
        let index = self.size;
        self.size += 1;
        self.entries.push(receipt);
        if self.entries.len() as u64 == TILE_WIDTH {
            let id = TileId { kind: TileKind::Entries, index: index / TILE_WIDTH, width: TILE_WIDTH };
            self.full.push((self.size, Tile { id, bytes: encode_entries(&self.entries) }));
            self.entries.clear();
        }
        let mut hash = leaf_hash(receipt);
        let mut position = index;
        for level in 0u8.. {
            if self.edge.len() <= usize::from(level) {
                self.edge.push(Vec::new());
            }
            let edge = &mut self.edge[usize::from(level)];
            edge.push(hash);
            if (edge.len() as u64) < TILE_WIDTH {
                break;
            }
            let id = TileId { kind: TileKind::Hashes(level), index: position / TILE_WIDTH, width: TILE_WIDTH };
            self.full.push((self.size, Tile { id, bytes: encode_hashes(edge) }));
            hash = root_of(edge);
            edge.clear();
            position /= TILE_WIDTH;
        }
        index
    }

    /// The root over all entries.
    pub fn root(&self) -> Digest {
        // The right edge, from the top: hashes of full subtrees of falling size.
        let mut root: Option<Digest> = None;
        for edge in &self.edge {
            for run in runs(edge).into_iter().rev() {
                root = Some(match root {
                    Some(right) => node_hash(run, right),
                    None => run,
                });
            }
        }
        root.unwrap_or_else(empty_root)
    }

    /// Root, size, and the tiles that must be stored before a checkpoint over them is signed: all that changed since
    /// [`Log::written`] was last told.
    pub fn publish(&self) -> Publication {
        let mut tiles: Vec<Tile> = self.full.iter().map(|(_, tile)| tile.clone()).collect();
        if self.written != self.size {
            if !self.entries.is_empty() {
                let id =
                    TileId { kind: TileKind::Entries, index: self.size / TILE_WIDTH, width: self.entries.len() as u64 };
                tiles.push(Tile { id, bytes: encode_entries(&self.entries) });
            }
            let mut count = self.size;
            for (level, edge) in (0u8..).zip(&self.edge) {
                if !edge.is_empty() {
                    let id =
                        TileId { kind: TileKind::Hashes(level), index: count / TILE_WIDTH, width: edge.len() as u64 };
                    tiles.push(Tile { id, bytes: encode_hashes(edge) });
                }
                count /= TILE_WIDTH;
            }
        }
        Publication { size: self.size, root: self.root(), tiles }
    }

    /// Notes that the tiles of the publication of that size are stored. If they could not be stored, the next publication
    /// holds them again.
    pub fn written(&mut self, size: u64) {
        self.full.retain(|(full_at, _)| *full_at > size);
        self.written = self.written.max(size.min(self.size));
    }

    /// The inclusion proof of entry `index` in the log as it is now.
    ///
    /// # Errors
    /// [`ReceiptError::Index`] or [`ReceiptError::Tile`]; tiles of the last publication must be readable.
    pub fn inclusion_proof(
        &self,
        index: u64,
        read: &mut dyn FnMut(&TileId) -> Option<Vec<u8>>,
    ) -> Result<Vec<Digest>, ReceiptError> {
        if index >= self.size {
            return Err(ReceiptError::Index { index, size: self.size });
        }
        let (mut start, mut end) = (0, self.size);
        let mut path = Vec::new();
        while end - start > 1 {
            let middle = start + split(end - start);
            if index < middle {
                path.push(self.range(middle, end, read)?);
                end = middle;
            } else {
                path.push(self.range(start, middle, read)?);
                start = middle;
            }
        }
        path.reverse();
        Ok(path)
    }

    /// The proof that the log as it is now begins with its first `earlier` entries.
    ///
    /// # Errors
    /// [`ReceiptError::Index`] or [`ReceiptError::Tile`].
    pub fn consistency_proof(
        &self,
        earlier: u64,
        read: &mut dyn FnMut(&TileId) -> Option<Vec<u8>>,
    ) -> Result<Vec<Digest>, ReceiptError> {
        if earlier > self.size {
            return Err(ReceiptError::Index { index: earlier, size: self.size });
        }
        if earlier == 0 || earlier == self.size {
            return Ok(Vec::new());
        }
        let (mut start, mut end) = (0, self.size);
        let mut path = Vec::new();
        while end != earlier {
            let middle = start + split(end - start);
            if earlier <= middle {
                path.push(self.range(middle, end, read)?);
                end = middle;
            } else {
                path.push(self.range(start, middle, read)?);
                start = middle;
            }
        }
        if start > 0 {
            path.push(self.range(start, end, read)?);
        }
        path.reverse();
        Ok(path)
    }

    /// The root over entries `start..end`, where `start` is a multiple of the power of two that holds the range.
    fn range(
        &self,
        start: u64,
        end: u64,
        read: &mut dyn FnMut(&TileId) -> Option<Vec<u8>>,
    ) -> Result<Digest, ReceiptError> {
        let size = end - start;
        if size.is_power_of_two() {
            return self.node(size.trailing_zeros(), start / size, read);
        }
        let middle = start + split(size);
        Ok(node_hash(self.range(start, middle, read)?, self.range(middle, end, read)?))
    }

    /// The hash of the full subtree of that height and index.
    fn node(
        &self,
        height: u32,
        index: u64,
        read: &mut dyn FnMut(&TileId) -> Option<Vec<u8>>,
    ) -> Result<Digest, ReceiptError> {
        let (level, within) = ((height / 8) as u8, height % 8);
        let first = index << within;
        let tile = first / TILE_WIDTH;
        let offset = (first % TILE_WIDTH) as usize;
        let length = 1usize << within;
        let total = self.size >> (8 * u32::from(level));
        let hashes = if tile == total / TILE_WIDTH {
            self.edge.get(usize::from(level)).cloned().unwrap_or_default()
        } else {
            let id = TileId { kind: TileKind::Hashes(level), index: tile, width: TILE_WIDTH };
            decode_hashes(&id, &fetch(&id, read)?)?
        };
        let hashes = hashes.get(offset..offset + length);
        hashes.map(root_of).ok_or_else(|| ReceiptError::Tile(format!("tile/{level}/{tile}")))
    }
}

/// The roots of the full subtrees of falling size that make up `hashes`.
fn runs(hashes: &[Digest]) -> Vec<Digest> {
    let mut rest = hashes;
    let mut out = Vec::new();
    while !rest.is_empty() {
        let length = 1usize << rest.len().ilog2();
        let (run, tail) = rest.split_at(length);
        out.push(root_of(run));
        rest = tail;
    }
    out
}

fn fetch(id: &TileId, read: &mut dyn FnMut(&TileId) -> Option<Vec<u8>>) -> Result<Vec<u8>, ReceiptError> {
    read(id).ok_or_else(|| ReceiptError::Tile(id.path()))
}
