//! Any bytes as PTX: compiled, and if that works launched with hostile arguments.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/driver/common/exercise.rs"]
mod exercise;

fuzz_target!(|data: &[u8]| {
    let Some((seed, text)) = data.split_first_chunk::<8>() else {
        return;
    };
    let hostility = exercise::Hostility {
        seed: u64::from_le_bytes(*seed),
    };
    exercise::exercise(&String::from_utf8_lossy(text), hostility);
});
