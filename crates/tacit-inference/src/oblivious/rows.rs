//! Rows of the embedding matrix, read without telling which.
//!
//! llama.cpp reads one row for each token of a step, at an address that is the token. So it gets another file: in place of the
//! embedding matrix a sheet of empty rows, and the matrix itself, if it also makes the answer's probabilities, under the name of
//! that use. Before a step the rows of its tokens are gathered here, over the whole matrix, and written into the sheet's first
//! rows; llama.cpp is told that the tokens are 0, 1, 2, and so on. It has mapped the file, so it reads what was written.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    path::PathBuf,
};

use rustix::fs::{MemfdFlags, memfd_create};

use super::ObliviousError;
use crate::{
    gguf::{Gguf, Tensor},
    store::CheckedFile,
};

/// The embedding matrix.
const MATRIX: &str = "token_embd.weight";
/// The matrix that turns the last layer into probabilities; without it llama.cpp takes the embedding matrix.
const OUTPUT: &str = "output.weight";
/// Number of the kind of tensors that hold 32-bit floating-point numbers.
const F32: u32 = 0;
/// Rows that are looked at together: they stay in the nearest cache while each token passes over them.
const ROWS: usize = 32;
/// Bytes of a row that are gathered together: they stay in registers while the rows pass.
const PIECE: usize = 128;

/// A piece of a row.
type Piece = [u64; PIECE / 8];

/// The embedding matrix, and the sheet from which llama.cpp reads.
#[derive(Debug)]
pub(crate) struct Rows {
    /// The rows, each filled up to whole pieces.
    matrix: Vec<Piece>,
    kind: u32,
    /// Pieces of a row, its bytes, and its numbers.
    pieces: usize,
    row: usize,
    width: usize,
    sheet: File,
    /// Where the sheet begins in its file.
    begin: u64,
    /// Room for the rows of a step.
    gathered: Vec<Piece>,
    numbers: Vec<f32>,
}

impl Rows {
    /// Makes the other file of a model's weights.
    ///
    /// # Errors
    /// [`ObliviousError::Tensor`] where more than the matrix is read by a token's number, [`ObliviousError::File`].
    pub(crate) fn new(weights: &CheckedFile, header: &Gguf) -> Result<Self, ObliviousError> {
        let matrix = header.tensors.iter().find(|tensor| tensor.name == MATRIX);
        let kind = matrix.map(|matrix| matrix.kind);
        let matrix = matrix.filter(|matrix| matrix.shape.len() == 2 && converts(matrix.kind));
        let matrix = matrix.ok_or(ObliviousError::Matrix(kind))?;
        let by_token = |tensor: &&Tensor| tensor.name != MATRIX && tensor.name.contains("token_embd");
        if let Some(other) = header.tensors.iter().find(by_token) {
            return Err(ObliviousError::Tensor(other.name.clone()));
        }
        let failed = |error: io::Error| ObliviousError::File(error.kind().to_string());
        let mut source = weights.open().map_err(|error| ObliviousError::File(error.to_string()))?;
        let size = usize::try_from(matrix.size).map_err(|_| ObliviousError::Matrix(kind))?;
        let mut bytes = vec![0; size];
        source.read_exact_at(&mut bytes, header.data + matrix.offset).map_err(failed)?;
        let (sheet, begin) = rewrite(&mut source, header, matrix).map_err(failed)?;
        let (width, count) = (matrix.shape[0] as usize, matrix.shape[1] as usize);
        let row = size / count;
        Ok(Self {
            matrix: bytes.chunks_exact(row).flat_map(pieces_of).collect(),
            kind: matrix.kind,
            pieces: row.div_ceil(PIECE),
            row,
            width,
            sheet,
            begin,
            gathered: Vec::new(),
            numbers: Vec::new(),
        })
    }

    /// A path under which this process can open the other file, as long as this value lives.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.sheet.as_raw_fd()))
    }

    /// Tokens of the vocabulary, which are also the sheet's rows.
    pub(crate) fn count(&self) -> usize {
        self.matrix.len() / self.pieces
    }

    /// Writes the rows of these tokens into the sheet, the first token's into its first row.
    ///
    /// # Errors
    /// What writing to memory gives.
    pub(crate) fn write(&mut self, tokens: &[u32]) -> io::Result<()> {
        self.gather(tokens);
        self.numbers.clear();
        self.numbers.resize(tokens.len() * self.width, 0.0);
        for (row, numbers) in self.gathered.chunks_exact(self.pieces).zip(self.numbers.chunks_exact_mut(self.width)) {
            let bytes: Vec<u8> = row.iter().flatten().flat_map(|word| word.to_le_bytes()).collect();
            to_numbers(self.kind, &bytes[..self.row], numbers);
        }
        let bytes: Vec<u8> = self.numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.sheet.write_all_at(&bytes, self.begin)
    }

    /// Copies the rows of these tokens, each out of a pass over all rows.
    pub(super) fn gather(&mut self, tokens: &[u32]) {
        self.gathered.clear();
        self.gathered.resize(tokens.len() * self.pieces, Piece::default());
        let mut first = 0_u32;
        for rows in self.matrix.chunks(ROWS * self.pieces) {
            for (token, gathered) in tokens.iter().zip(self.gathered.chunks_exact_mut(self.pieces)) {
                let masks: [u64; ROWS] = std::hint::black_box(std::array::from_fn(|place| {
                    u64::from(first.wrapping_add(place as u32) == *token).wrapping_neg()
                }));
                for (place, piece) in gathered.iter_mut().enumerate() {
                    gather(piece, rows.iter().skip(place).step_by(self.pieces), &masks);
                }
            }
            first = first.wrapping_add(ROWS as u32);
        }
    }
}

/// Adds what masks leave of pieces.
fn gather<'a>(piece: &mut Piece, pieces: impl Iterator<Item = &'a Piece>, masks: &[u64; ROWS]) {
    let mut gathered = *piece;
    for (piece, mask) in pieces.zip(masks) {
        for (word, other) in gathered.iter_mut().zip(piece) {
            *word |= other & mask;
        }
    }
    *piece = gathered;
}

/// A row in pieces.
fn pieces_of(row: &[u8]) -> impl Iterator<Item = Piece> {
    row.chunks(PIECE).map(|bytes| {
        let mut filled = [0; PIECE];
        filled[..bytes.len()].copy_from_slice(bytes);
        let (words, _) = filled.as_chunks();
        std::array::from_fn(|place| u64::from_le_bytes(words[place]))
    })
}

/// Writes a model's file once more, with a sheet in place of its embedding matrix; says where the sheet begins.
fn rewrite(source: &mut File, header: &Gguf, matrix: &Tensor) -> io::Result<(File, u64)> {
    let has_output = header.tensors.iter().any(|tensor| tensor.name == OUTPUT);
    let output = Tensor { name: OUTPUT.to_owned(), ..matrix.clone() };
    let tensors: Vec<&Tensor> = header.tensors.iter().chain((!has_output).then_some(&output)).collect();
    let sheet_size = matrix.shape.iter().product::<u64>() * 4;
    let mut head = vec![0; usize::try_from(header.list).unwrap_or(usize::MAX)];
    source.read_exact_at(&mut head, 0)?;
    head[8..16].copy_from_slice(&(tensors.len() as u64).to_le_bytes());
    let (alignment, mut end, mut begin) = (header.alignment(), 0_u64, 0);
    for tensor in &tensors {
        let is_sheet = tensor.name == MATRIX;
        head.extend((tensor.name.len() as u64).to_le_bytes());
        head.extend(tensor.name.as_bytes());
        head.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().for_each(|dimension| head.extend(dimension.to_le_bytes()));
        head.extend(if is_sheet { F32 } else { tensor.kind }.to_le_bytes());
        head.extend(end.to_le_bytes());
        if is_sheet {
            begin = end;
        }
        end += if is_sheet { sheet_size } else { tensor.size }.next_multiple_of(alignment);
    }
    let data = (head.len() as u64).next_multiple_of(alignment);
    let mut file = File::from(memfd_create("tacit-model", MemfdFlags::CLOEXEC)?);
    file.write_all(&head)?;
    file.set_len(data + end)?;
    file.seek(SeekFrom::Start(data))?;
    for tensor in tensors {
        let is_sheet = tensor.name == MATRIX;
        let place = file.stream_position()?;
        if !is_sheet {
            source.seek(SeekFrom::Start(header.data + tensor.offset))?;
            if io::copy(&mut source.take(tensor.size), &mut file)? != tensor.size {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let size = if is_sheet { sheet_size } else { tensor.size };
        file.seek(SeekFrom::Start(place + size.next_multiple_of(alignment)))?;
    }
    Ok((file, data + begin))
}

/// Whether rows of this kind become numbers by arithmetic alone: some others are looked up in tables.
fn converts(kind: u32) -> bool {
    use llama_cpp_sys_2 as sys;
    let kinds = [
        sys::GGML_TYPE_F32,
        sys::GGML_TYPE_F16,
        sys::GGML_TYPE_BF16,
        sys::GGML_TYPE_Q4_0,
        sys::GGML_TYPE_Q4_1,
        sys::GGML_TYPE_Q5_0,
        sys::GGML_TYPE_Q5_1,
        sys::GGML_TYPE_Q8_0,
        sys::GGML_TYPE_Q2_K,
        sys::GGML_TYPE_Q3_K,
        sys::GGML_TYPE_Q4_K,
        sys::GGML_TYPE_Q5_K,
        sys::GGML_TYPE_Q6_K,
    ];
    kinds.contains(&kind)
}

/// The numbers of a row, as llama.cpp makes them when it reads the matrix itself.
#[allow(unsafe_code)]
fn to_numbers(kind: u32, row: &[u8], numbers: &mut [f32]) {
    if kind == F32 {
        for (bytes, number) in row.as_chunks().0.iter().zip(numbers) {
            *number = f32::from_le_bytes(*bytes);
        }
        return;
    }
    // SAFETY: the kind is one of [`converts`], for which ggml has traits that live as long as the program; `row` holds exactly the
    // blocks of `numbers.len()` numbers of that kind, which the header's check has seen to.
    unsafe {
        let traits = llama_cpp_sys_2::ggml_get_type_traits(kind);
        let to_float = (*traits).to_float.expect("every such kind becomes numbers");
        to_float(row.as_ptr().cast(), numbers.as_mut_ptr(), numbers.len() as i64);
    }
}

#[cfg(test)]
mod tests {
    use tacit_types::formats::sha256;

    use super::*;
    use crate::gguf::{self, Metadata};

    fn model(more: &[(&str, [u64; 2])]) -> CheckedFile {
        let mut file = Vec::new();
        let values = |count: u64| (0..count).map(|value| value as f32).collect::<Vec<f32>>();
        let mut tensors = vec![
            ("first".to_owned(), vec![3], values(3)),
            (MATRIX.to_owned(), vec![4, 50], values(200)),
            ("last".to_owned(), vec![5], values(5)),
        ];
        tensors
            .extend(more.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec(), values(shape[0] * shape[1]))));
        gguf::write(&mut file, &[("general.architecture", Metadata::Text("llama".into()))], &tensors).unwrap();
        CheckedFile::from_reader(file.as_slice(), sha256(&file), file.len() as u64).unwrap()
    }

    fn header(file: &CheckedFile) -> Gguf {
        gguf::read(file.open().unwrap(), file.size()).unwrap()
    }

    #[test]
    fn the_other_file_has_a_sheet_and_all_else() {
        for (more, has_output) in [(&[][..], false), (&[(OUTPUT, [4, 50])][..], true)] {
            let original = model(more);
            let before = header(&original);
            let mut rows = Rows::new(&original, &before).unwrap();
            assert_eq!(rows.count(), 50);
            rows.write(&[7, 0, 49, 7]).unwrap();
            let file = File::open(rows.path()).unwrap();
            let after = gguf::read(&file, file.metadata().unwrap().len()).unwrap();
            assert_eq!(after.metadata, before.metadata);
            assert_eq!(after.tensors.len(), before.tensors.len() + usize::from(!has_output));
            let numbers = |name: &str| {
                let tensor = after.tensors.iter().find(|tensor| tensor.name == name).unwrap();
                let mut bytes = vec![0; tensor.size as usize];
                file.read_exact_at(&mut bytes, after.data + tensor.offset).unwrap();
                bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect::<Vec<_>>()
            };
            assert_eq!(numbers("first"), [0.0, 1.0, 2.0]);
            assert_eq!(numbers("last"), [0.0, 1.0, 2.0, 3.0, 4.0]);
            assert_eq!(numbers(OUTPUT), (0..200_u8).map(f32::from).collect::<Vec<_>>());
            let sheet = numbers(MATRIX);
            let row = |token: u8| (0..4).map(|value| f32::from(token * 4 + value)).collect::<Vec<_>>();
            assert_eq!(sheet[..16], [row(7), row(0), row(49), row(7)].concat());
            assert_eq!(sheet[16..], [0.0; 184]);
        }
    }

    #[test]
    fn what_is_read_by_token_elsewhere_is_refused() {
        let file = model(&[("per_layer_token_embd.weight", [4, 50])]);
        let refused = Rows::new(&file, &header(&file)).unwrap_err();
        assert_eq!(refused, ObliviousError::Tensor("per_layer_token_embd.weight".into()));
        let mut header = header(&file);
        header.tensors.retain(|tensor| tensor.name != "per_layer_token_embd.weight");
        let iq2 = 16;
        header.tensors.iter_mut().filter(|tensor| tensor.name == MATRIX).for_each(|tensor| tensor.kind = iq2);
        assert_eq!(Rows::new(&file, &header).unwrap_err(), ObliviousError::Matrix(Some(iq2)));
        header.tensors.retain(|tensor| tensor.name != MATRIX);
        assert_eq!(Rows::new(&file, &header).unwrap_err(), ObliviousError::Matrix(None));
    }
}
