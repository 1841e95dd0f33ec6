//! The names of drop reasons as C reads them, made when this is compiled.

use std::ffi::CStr;

use weirgate::verdict::DropReason;

/// Bytes for the longest text and its end.
const TEXT_BYTES: usize = 160;

type Texts = [[u8; TEXT_BYTES]; DropReason::COUNT];

static NAMES: Texts = texts(false);
static DESCRIPTIONS: Texts = texts(true);

const fn texts(descriptions: bool) -> Texts {
    let mut texts = [[0; TEXT_BYTES]; DropReason::COUNT];
    let mut index = 0;
    while index < DropReason::COUNT {
        let reason = DropReason::ALL[index];
        let from = if descriptions { reason.description() } else { reason.name() }.as_bytes();
        // A zero byte ends the text: one is always left, and none may come before.
        assert!(from.len() < TEXT_BYTES, "make room for a longer text");
        let mut at = 0;
        while at < from.len() {
            assert!(from[at] != 0);
            texts[index][at] = from[at];
            at += 1;
        }
        index += 1;
    }
    texts
}

fn text(texts: &'static Texts, reason: u8) -> Option<&'static CStr> {
    CStr::from_bytes_until_nul(texts.get(usize::from(reason))?).ok()
}

/// The name of the reason with this number.
pub(crate) fn name(reason: u8) -> Option<&'static CStr> {
    text(&NAMES, reason)
}

/// One sentence about the reason with this number.
pub(crate) fn description(reason: u8) -> Option<&'static CStr> {
    text(&DESCRIPTIONS, reason)
}
