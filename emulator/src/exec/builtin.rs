//! The functions that CUDA code expects of its device: `vprintf`, `__assertfail`, `malloc` and `free`.

use super::access::{Words, lanes};
use super::running::{Result, Run};
use super::warp::Group;
use crate::check::FaultKind;
use crate::ir::code::{AccessSpace, Builtin, Call, Order, PassedIn};
use crate::ir::regs::Reg;
use crate::memory::BadFree;

/// The longest string that is read from device memory.
const MAX_STRING: usize = 1 << 16;

impl Run<'_, '_> {
    /// One lane's argument of a call.
    fn argument(&mut self, g: &Group, call: &Call, index: usize, lane: usize) -> u64 {
        let mut raw = [0u8; 8];
        match call.arguments.get(index) {
            Some(PassedIn::Memory(at, size)) => {
                let size = (*size as usize).min(8);
                self.warp.local.read(lane, g.frame + at, &mut raw[..size]);
            }
            Some(PassedIn::Register(Reg::W(s), _)) => {
                return u64::from(self.warp.regs.get32(*s)[lane]);
            }
            Some(PassedIn::Register(Reg::D(s), _)) => return self.warp.regs.get64(*s)[lane],
            None => {}
        }
        u64::from_le_bytes(raw)
    }

    /// One lane's bytes at a generic address.
    fn peek(&mut self, g: &Group, lane: usize, address: u64, unit: u32) -> Result<u32> {
        let mut words: Words = [[0; 32]; 4];
        let a = [address; 32];
        self.by_space(
            AccessSpace::Generic,
            &a,
            1 << lane,
            |this, space, a, part| {
                this.read_words(g, space, a, part, unit, 1, Order::default(), &mut words)
            },
        )?;
        Ok(words[0][lane])
    }

    fn string(&mut self, g: &Group, lane: usize, address: u64) -> Result<String> {
        let mut bytes = Vec::new();
        while bytes.len() < MAX_STRING {
            match self.peek(g, lane, address + bytes.len() as u64, 1)? {
                0 => break,
                b => bytes.push(b as u8),
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Writes a call's result to the caller's return parameter.
    fn give_back(&mut self, g: &Group, call: &Call, active: u32, value: impl Fn(usize) -> u64) {
        if let Some(PassedIn::Memory(at, size)) = call.returns.first() {
            for lane in lanes(active) {
                let bytes = value(lane).to_le_bytes();
                self.warp
                    .local
                    .write(lane, g.frame + at, &bytes[..(*size as usize).min(8)]);
            }
        }
    }

    pub fn builtin(&mut self, g: &Group, which: Builtin, call: &Call, active: u32) -> Result<()> {
        match which {
            Builtin::AssertFail => {
                let lane = active.trailing_zeros() as usize;
                let (message, file) = (
                    self.argument(g, call, 0, lane),
                    self.argument(g, call, 1, lane),
                );
                let line = self.argument(g, call, 2, lane);
                let (message, file) = (self.string(g, lane, message)?, self.string(g, lane, file)?);
                let message = format!("assertion `{message}` failed at {file}:{line}");
                Err(self.trouble(g, FaultKind::Trap, lane as u32, message))
            }
            Builtin::Vprintf => {
                let mut printed = [0u32; 32];
                for lane in lanes(active) {
                    let (format, values) = (
                        self.argument(g, call, 0, lane),
                        self.argument(g, call, 1, lane),
                    );
                    let format = self.string(g, lane, format)?;
                    let text = self.print(g, lane, &format, values)?;
                    printed[lane] = text.len() as u32;
                    print!("{text}");
                }
                self.give_back(g, call, active, |lane| u64::from(printed[lane]));
                Ok(())
            }
            Builtin::Malloc => {
                let mut addresses = [0u64; 32];
                for lane in lanes(active) {
                    let size = self.argument(g, call, 0, lane);
                    let memory = self.launch.memory;
                    // A full heap gives null, as CUDA documents.
                    if let Some(address) = memory.heap().and_then(|heap| heap.allocate(size)) {
                        let _ = memory.mark_uninit(address, size);
                        addresses[lane] = address;
                    }
                }
                self.give_back(g, call, active, |lane| addresses[lane]);
                Ok(())
            }
            Builtin::Free => {
                for lane in lanes(active) {
                    let address = self.argument(g, call, 0, lane);
                    let Some(heap) = self.launch.memory.heap().filter(|_| address != 0) else {
                        continue;
                    };
                    let (kind, message) = match heap.release(address) {
                        Ok(_) => continue,
                        Err(BadFree::Twice) => (
                            FaultKind::UseAfterFree,
                            format!("{address:#x} is freed a second time"),
                        ),
                        Err(BadFree::NoPiece) => (
                            FaultKind::OutOfBounds,
                            format!("free of {address:#x}, which malloc did not give"),
                        ),
                    };
                    return Err(self.bad_access(
                        g,
                        kind,
                        lane,
                        AccessSpace::Global,
                        address,
                        message,
                    ));
                }
                Ok(())
            }
        }
    }

    /// The text that `printf` prints. The values lie one after the other, each at its own alignment.
    fn print(&mut self, g: &Group, lane: usize, format: &str, values: u64) -> Result<String> {
        let mut out = String::new();
        let mut at = values;
        let mut rest = format.chars().peekable();
        while let Some(c) = rest.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut spec = String::new();
            let mut long = false;
            let conversion = loop {
                match rest.next() {
                    Some(c) if c.is_ascii_digit() || "-+ #.".contains(c) => spec.push(c),
                    Some('l' | 'j' | 'z' | 't') => long = true,
                    Some('h') => {}
                    Some(c) => break c,
                    None => break '%',
                }
            };
            if conversion == '%' {
                out.push('%');
                continue;
            }
            let wide = long || "eEfFgGaAsp".contains(conversion);
            let width = if wide { 8 } else { 4 };
            at = at.next_multiple_of(width);
            let low = u64::from(self.peek(g, lane, at, 4)?);
            let value = if wide {
                low | u64::from(self.peek(g, lane, at + 4, 4)?) << 32
            } else {
                low
            };
            at += width;
            let signed = if wide {
                value as i64
            } else {
                i64::from(value as u32 as i32)
            };
            let (flags, precision) = match spec.split_once('.') {
                Some((f, p)) => (f.to_owned(), p.parse::<usize>().ok()),
                None => (spec.clone(), None),
            };
            let text = match conversion {
                'd' | 'i' => signed.to_string(),
                'u' => value.to_string(),
                'x' => format!("{value:x}"),
                'X' => format!("{value:X}"),
                'o' => format!("{value:o}"),
                'p' => format!("{value:#x}"),
                'c' => char::from(value as u8).to_string(),
                's' => self.string(g, lane, value)?,
                'e' | 'E' => format!("{:.*e}", precision.unwrap_or(6), f64::from_bits(value)),
                'g' | 'G' => format!("{}", f64::from_bits(value)),
                _ => format!("{:.*}", precision.unwrap_or(6), f64::from_bits(value)),
            };
            let left = flags.contains('-');
            let zero = flags
                .trim_start_matches(['-', '+', ' ', '#'])
                .starts_with('0')
                && !left;
            let field: usize = flags
                .trim_start_matches(['-', '+', ' ', '#', '0'])
                .parse()
                .unwrap_or(0)
                .min(4096);
            let plus =
                flags.contains('+') && "dieEfFgG".contains(conversion) && !text.starts_with('-');
            let text = if plus { format!("+{text}") } else { text };
            out.push_str(&if left {
                format!("{text:<field$}")
            } else if zero && text.len() < field {
                let (sign, digits) = text.split_at(usize::from(text.starts_with(['-', '+'])));
                format!("{sign}{}{digits}", "0".repeat(field - text.len()))
            } else {
                format!("{text:>field$}")
            });
        }
        Ok(out)
    }
}
