//! Fragments that have waited, and whose first one has come, leave as far as there are spare frames.

use super::act;
use super::context::{Context, Spares};
use super::fragments::spares_needed;
use super::item::Sorted;
use super::observe::Observer;
use super::sort;
use crate::verdict::{DropReason, Verdict};

#[cold]
pub(super) fn release<O: Observer>(cx: &mut Context<'_, '_, '_, O>, spares: &mut Spares<'_, '_>) {
    while let Some(len) = cx.worker.fragments.next_len() {
        // It may have to be fragmented again. Where not even the first one finds as many, that is a drop.
        if spares.should_wait_for(spares_needed(len)) {
            break;
        }
        let Some(spare) = spares.peek() else { break };
        let released = cx.worker.fragments.release(|held| {
            let fits = spare.refill(held.frame, held.port, held.handovers);
            (fits, (held.index, held.fate, held.first))
        });
        let Some((fits, held)) = released else { break };
        let Some((spare, number)) = spares.take() else { break };
        cx.frame_index = number;
        let mut item = Sorted::Decided(Verdict::Drop(DropReason::NoRoom));
        let sorted = if fits { sort::sort(cx.worker, cx.snapshot, spare, &mut item) } else { Ok(()) };
        let verdict = match (sorted, &mut item) {
            (Err(reason), _) => Err(reason),
            (_, Sorted::V4(item)) => act::act_on_held(cx, spare, item, spares, held),
            (_, Sorted::V6(item)) => act::act_on_held(cx, spare, item, spares, held),
            (_, Sorted::Decided(verdict)) => Ok(*verdict),
        };
        cx.conclude(spare, verdict.unwrap_or_else(Verdict::Drop));
    }
    cx.worker.count_lost_fragments();
}
