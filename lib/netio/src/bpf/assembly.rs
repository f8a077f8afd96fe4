//! eBPF programs as tables of instructions, with labels.

/// Instructions: class, size or operation, source (linux/bpf_common.h, linux/bpf.h).
pub(crate) const LOAD_BYTE: u8 = 0x71;
pub(crate) const LOAD_HALF: u8 = 0x69;
pub(crate) const LOAD_WORD: u8 = 0x61;
pub(crate) const STORE_BYTE: u8 = 0x73;
pub(crate) const STORE_HALF: u8 = 0x6b;
pub(crate) const STORE_WORD: u8 = 0x63;
pub(crate) const STORE_CONSTANT: u8 = 0x62;
pub(crate) const STORE_BYTE_CONSTANT: u8 = 0x72;
pub(crate) const STORE_DOUBLE_CONSTANT: u8 = 0x7a;
pub(crate) const LOAD_MAP: u8 = 0x18;
pub(crate) const MOVE: u8 = 0xbf;
pub(crate) const MOVE_CONSTANT: u8 = 0xb7;
pub(crate) const ADD_CONSTANT: u8 = 0x07;
pub(crate) const ADD: u8 = 0x0f;
pub(crate) const MULTIPLY_WORD_CONSTANT: u8 = 0x24;
pub(crate) const SHIFT_RIGHT_WORD: u8 = 0x74;
pub(crate) const XOR_WORD: u8 = 0xac;
/// From the packet, to register 0, in the machine's order; the packet is in register 6, and registers 1 to 5 are lost. Beyond its end: the program ends with 0.
pub(crate) const LOAD_PACKET_BYTE: u8 = 0x30;
pub(crate) const LOAD_PACKET_WORD: u8 = 0x20;
pub(crate) const SUBTRACT: u8 = 0x1f;
pub(crate) const AND_CONSTANT: u8 = 0x57;
pub(crate) const TO_BIG_ENDIAN: u8 = 0xdc;
pub(crate) const IF_EQUAL: u8 = 0x15;
pub(crate) const IF_NOT_EQUAL: u8 = 0x55;
pub(crate) const IF_EQUAL_REGISTER: u8 = 0x1d;
pub(crate) const IF_NOT_EQUAL_REGISTER: u8 = 0x5d;
pub(crate) const IF_BELOW: u8 = 0xa5;
pub(crate) const IF_ABOVE: u8 = 0x25;
pub(crate) const IF_ABOVE_REGISTER: u8 = 0x2d;
pub(crate) const JUMP: u8 = 0x05;
pub(crate) const CALL: u8 = 0x85;
pub(crate) const EXIT: u8 = 0x95;
/// Helper function: the place of a key's value.
pub(crate) const LOOKUP: i32 = 1;
/// Source register of LOAD_MAP: the constant is a descriptor; of the first value of an array, its place.
pub(crate) const PSEUDO_MAP: u8 = 1;
pub(crate) const PSEUDO_MAP_VALUE: u8 = 2;

/// A line of a program whose labels are of type `L`.
pub(crate) enum Line<L> {
    /// One instruction.
    Do(Instruction),
    /// Jumps there.
    To(L, Instruction),
    /// A label.
    Here(L),
}

/// struct bpf_insn.
#[derive(Clone, Copy)]
pub(crate) struct Instruction {
    code: u8,
    destination: u8,
    source: u8,
    offset: i16,
    constant: i32,
}

/// One instruction.
pub(crate) fn do_<L>(code: u8, destination: u8, source: u8, offset: i16, constant: i32) -> Line<L> {
    Line::Do(instruction(code, destination, source, offset, constant))
}

/// Goes on at a label if a register is as `code` says to a constant.
pub(crate) fn jump_if<L>(code: u8, register: u8, constant: i32, to: L) -> Line<L> {
    Line::To(to, instruction(code, register, 0, 0, constant))
}

/// For [`Line::To`].
pub(crate) fn instruction(code: u8, destination: u8, source: u8, offset: i16, constant: i32) -> Instruction {
    Instruction {
        code,
        destination,
        source,
        offset,
        constant,
    }
}

/// The instructions as the kernel takes them.
pub(crate) fn encode<L: Copy + PartialEq>(lines: &[Line<L>]) -> Vec<u64> {
    let is_code = |line: &&Line<L>| !matches!(line, Line::Here(_));
    // How many instructions stand before a label.
    let before = |label: L| {
        let above = lines
            .iter()
            .take_while(|line| !matches!(line, Line::Here(here) if *here == label));
        above.filter(is_code).count()
    };
    let encode = |(place, line): (usize, &Line<L>)| {
        let instruction = match line {
            Line::To(label, instruction) => Instruction {
                // Counted from the instruction behind; all labels are further on.
                offset: i16::try_from(before(*label).saturating_sub(place + 1)).unwrap_or(i16::MAX),
                ..*instruction
            },
            Line::Do(instruction) => *instruction,
            Line::Here(_) => return None,
        };
        Some(instruction.encode())
    };
    lines
        .iter()
        .filter(is_code)
        .enumerate()
        .filter_map(encode)
        .collect()
}

impl Instruction {
    /// struct bpf_insn.
    fn encode(self) -> u64 {
        // Two fields of four bits: the first is the lower half on little-endian machines.
        let registers = if cfg!(target_endian = "little") {
            self.source << 4 | self.destination
        } else {
            self.destination << 4 | self.source
        };
        let [o0, o1] = self.offset.to_ne_bytes();
        let [c0, c1, c2, c3] = self.constant.to_ne_bytes();
        u64::from_ne_bytes([self.code, registers, o0, o1, c0, c1, c2, c3])
    }
}
