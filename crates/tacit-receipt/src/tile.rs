//! Tiles (C2SP tlog-tiles): 256 hashes of one level of the tree, or 256 entries, under a path of their own.

use std::collections::BTreeMap;

use tacit_types::Digest;

use crate::ReceiptError;

/// Hashes or entries of a full tile.
pub const TILE_WIDTH: u64 = 256;

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// Hashes at height 8 · level of the tree; level 0 holds the leaf hashes.
    Hashes(u8),
    /// The entries themselves: each a big-endian u16 length and the receipt digest.
    Entries,
}

/// The place of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    /// What it holds.
    pub kind: TileKind,
    /// Its index within the level.
    pub index: u64,
    /// How many hashes or entries it holds, 1 to 256; fewer than 256 only at the right edge.
    pub width: u64,
}

impl TileId {
    /// The path under the log's URL, such as `tile/0/x001/234.p/17`.
    pub fn path(&self) -> String {
        let level = match self.kind {
            TileKind::Hashes(level) => level.to_string(),
            TileKind::Entries => "entries".to_owned(),
        };
        let mut index = format!("{:03}", self.index % 1000);
        let mut rest = self.index / 1000;
        while rest > 0 {
            index = format!("x{:03}/{index}", rest % 1000);
            rest /= 1000;
        }
        if self.width == TILE_WIDTH {
            format!("tile/{level}/{index}")
        } else {
            format!("tile/{level}/{index}.p/{}", self.width)
        }
    }

    /// Reads a path made by [`TileId::path`]; nothing else is a tile's path.
    pub fn parse(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("tile/")?;
        let (level, rest) = rest.split_once('/')?;
        let kind = if level == "entries" { TileKind::Entries } else { TileKind::Hashes(level.parse().ok()?) };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => (index, width.parse().ok()?),
            None => (rest, TILE_WIDTH),
        };
        let mut number = 0u64;
        for part in index.split('/') {
            let digits: u64 = part.strip_prefix('x').unwrap_or(part).parse().ok()?;
            number = number.checked_mul(1000)?.checked_add(digits)?;
        }
        let id = Self { kind, index: number, width };
        let possible = (1..=TILE_WIDTH).contains(&width) && !matches!(kind, TileKind::Hashes(8..));
        (possible && id.path() == path).then_some(id)
    }
}

/// A tile to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// Its place.
    pub id: TileId,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

pub(crate) fn encode_hashes(hashes: &[Digest]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

pub(crate) fn encode_entries(entries: &[Digest]) -> Vec<u8> {
    entries.iter().flat_map(|entry| [&32u16.to_be_bytes()[..], entry.as_bytes()].concat()).collect()
}

/// Reads the hashes of a tile of that width.
pub(crate) fn decode_hashes(id: &TileId, bytes: &[u8]) -> Result<Vec<Digest>, ReceiptError> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() || hashes.len() as u64 != id.width {
        return Err(ReceiptError::Tile(id.path()));
    }
    Ok(hashes.iter().map(|hash| Digest::from(*hash)).collect())
}

/// Reads the entries of an entries tile.
pub(crate) fn decode_entries(id: &TileId, bytes: &[u8]) -> Result<Vec<Digest>, ReceiptError> {
    let (entries, rest) = bytes.as_chunks::<34>();
    let entries: Option<Vec<Digest>> =
        entries.iter().map(|entry| Digest::try_from(entry.strip_prefix(&[0, 32])?).ok()).collect();
    match entries {
        Some(entries) if rest.is_empty() && entries.len() as u64 == id.width => Ok(entries),
        _ => Err(ReceiptError::Tile(id.path())),
    }
}

/// Tiles in memory, by path. A partial tile gives way to the wider one that follows it.
#[derive(Debug, Clone, Default)]
pub struct TileStore {
    tiles: BTreeMap<(TileKind, u64), (u64, Vec<u8>)>,
}

impl TileStore {
    /// Keeps these tiles.
    pub fn write(&mut self, tiles: &[Tile]) {
        for tile in tiles {
            self.tiles.insert((tile.id.kind, tile.id.index), (tile.id.width, tile.bytes.clone()));
        }
    }

    /// The bytes of a tile; a wider one at the same place serves as well, cut to the width.
    pub fn read(&self, id: &TileId) -> Option<Vec<u8>> {
        let (width, bytes) = self.tiles.get(&(id.kind, id.index))?;
        if *width < id.width {
            return None;
        }
        let unit = if id.kind == TileKind::Entries { 34 } else { 32 };
        bytes.get(..id.width as usize * unit).map(<[u8]>::to_vec)
    }

    /// A reader to hand to [`crate::Log`].
    pub fn reader(&self) -> impl FnMut(&TileId) -> Option<Vec<u8>> + '_ {
        |id| self.read(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_c2sp() {
        let check = |kind, index, width, path: &str| {
            let id = TileId { kind, index, width };
            assert_eq!(id.path(), path);
            assert_eq!(TileId::parse(path), Some(id));
        };
        check(TileKind::Hashes(0), 0, 256, "tile/0/000");
        check(TileKind::Hashes(1), 1_234_067, 256, "tile/1/x001/x234/067");
        check(TileKind::Hashes(0), 273, 112, "tile/0/273.p/112");
        check(TileKind::Entries, 1000, 1, "tile/entries/x001/000.p/1");
    }

    #[test]
    fn other_paths_are_refused() {
        for path in [
            "tile/0/0",
            "tile/0/000.p/0",
            "tile/0/000.p/257",
            "tile/9/000",
            "tile/0/x000/000",
            "tile/-1/000",
            "tile/0/../000",
            "tile/0/000.p/256",
            "tile/00/000",
            "checkpoint",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
        ] {
            assert_eq!(TileId::parse(path), None, "{path}");
        }
    }
}
