//! Which sequence of the key-value cache holds which tokens, whose they are, and where a new request goes.

use tacit_types::Digest;

/// A token's number.
pub(super) type Token = i32;

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Placement {
    /// One slot for each choice; the prompt is worked through in the first.
    pub(super) slots: Vec<usize>,
    /// The slot whose beginning is reused, and how many tokens of it.
    pub(super) reused: Option<(usize, usize)>,
    /// Idle slots whose tokens are given up, beside those in `slots`.
    pub(super) evicted: Vec<usize>,
}

#[derive(Debug, Default)]
struct Slot {
    /// Tokens whose keys and values the cache holds.
    tokens: Vec<Token>,
    group: Option<Digest>,
    /// Cells that a running request may fill; none in an idle slot.
    reserved: Option<u32>,
    /// When it became idle.
    idle_since: u64,
}

/// All slots of one context, which share its cells.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    cells: u32,
    clock: u64,
}

impl Slots {
    pub(super) fn new(count: usize, cells: u32) -> Self {
        Self { slots: (0..count).map(|_| Slot::default()).collect(), cells, clock: 0 }
    }

    /// Finds slots for `choices` answers of at most `answer` tokens to a prompt, and takes them; `None` if too many requests run.
    ///
    /// The longest beginning that the prompt shares with a slot of the same group is reused, whether that slot is idle or not. The
    /// prompt's last token is always worked through again, since its outcome is needed.
    pub(super) fn place(
        &mut self,
        prompt: &[Token],
        group: Option<Digest>,
        answer: u32,
        choices: usize,
    ) -> Option<Placement> {
        let needed = u64::from(answer) * choices as u64 + prompt.len() as u64;
        let mut idle: Vec<usize> = (0..self.slots.len()).filter(|&slot| self.slots[slot].reserved.is_none()).collect();
        let reserved: u64 = self.slots.iter().filter_map(|slot| slot.reserved).map(u64::from).sum();
        if idle.len() < choices || reserved + needed > u64::from(self.cells) {
            return None;
        }
        let reused = (0..self.slots.len())
            .filter(|_| group.is_some())
            .filter(|&slot| self.slots[slot].group == group)
            .map(|slot| (slot, common(&self.slots[slot].tokens, prompt).min(prompt.len().saturating_sub(1))))
            .filter(|&(_, length)| length > 0)
            .max_by_key(|&(slot, length)| (length, self.slots[slot].reserved.is_none()));
        // Empty slots first, then those that were idle longest; a slot most of whose tokens are reused leads.
        idle.sort_by_key(|&slot| (!self.slots[slot].tokens.is_empty(), self.slots[slot].idle_since));
        if let Some((source, length)) = reused
            && let Some(position) = idle.iter().position(|&slot| slot == source)
            && (length * 2 >= self.slots[source].tokens.len() || idle.len() == choices)
        {
            idle.remove(position);
            idle.insert(0, source);
        }
        let slots: Vec<usize> = idle.drain(..choices).collect();
        let mut kept: u64 = idle.iter().map(|&slot| self.slots[slot].tokens.len() as u64).sum();
        let mut evicted = Vec::new();
        for slot in idle {
            if reserved + needed + kept <= u64::from(self.cells) {
                break;
            }
            let length = self.slots[slot].tokens.len() as u64;
            if length > 0 {
                kept -= length;
                self.slots[slot] = Slot::default();
                evicted.push(slot);
            }
        }
        for (index, &slot) in slots.iter().enumerate() {
            let reserved = if index == 0 { prompt.len() as u32 + answer } else { answer };
            let tokens = match reused {
                Some((_, length)) if index == 0 => prompt[..length].to_vec(),
                _ => Vec::new(),
            };
            self.slots[slot] = Slot { tokens, group, reserved: Some(reserved), idle_since: 0 };
        }
        Some(Placement { slots, reused, evicted })
    }

    /// How many tokens a slot holds, which is the position of its next one.
    pub(super) fn length(&self, slot: usize) -> usize {
        self.slots[slot].tokens.len()
    }

    /// Tokens were worked through.
    pub(super) fn extend(&mut self, slot: usize, tokens: &[Token]) {
        self.slots[slot].tokens.extend_from_slice(tokens);
    }

    /// A request is over. Its tokens stay for later requests of its group; without a group the slot is emptied, which the caller
    /// does in the cache too. Says whether they stay.
    pub(super) fn release(&mut self, slot: usize) -> bool {
        self.clock += 1;
        let slot = &mut self.slots[slot];
        slot.reserved = None;
        slot.idle_since = self.clock;
        if slot.group.is_none() {
            slot.tokens.clear();
        }
        slot.group.is_some()
    }

    /// Forgets what all idle slots hold.
    pub(super) fn forget(&mut self) {
        for slot in &mut self.slots {
            *slot = Slot::default();
        }
    }
}

fn common(one: &[Token], other: &[Token]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANNE: Option<Digest> = Some(Digest::ZERO);

    fn bob() -> Option<Digest> {
        Some(Digest::from([1; 32]))
    }

    /// Runs a request to its end; gives its slot and how many tokens were reused.
    fn run(slots: &mut Slots, prompt: &[Token], group: Option<Digest>) -> (usize, usize) {
        let placement = slots.place(prompt, group, 2, 1).unwrap();
        let slot = placement.slots[0];
        let reused = placement.reused.map_or(0, |(_, length)| length);
        slots.extend(slot, &prompt[reused..]);
        slots.release(slot);
        (slot, reused)
    }

    #[test]
    fn a_prefix_is_reused_within_its_group_alone() {
        let mut slots = Slots::new(3, 100);
        assert_eq!(run(&mut slots, &[1, 2, 3, 4], ANNE), (0, 0));
        assert_eq!(run(&mut slots, &[1, 2, 3, 4], bob()), (1, 0));
        assert_eq!(run(&mut slots, &[1, 2, 3, 4], None), (2, 0));
        assert_eq!(run(&mut slots, &[1, 2, 3, 4], None), (2, 0));
        // The last token of the same prompt is needed again.
        assert_eq!(run(&mut slots, &[1, 2, 3, 4], ANNE), (0, 3));
        assert_eq!(run(&mut slots, &[1, 2, 3, 4, 5, 6], ANNE), (0, 4));
        assert_eq!(run(&mut slots, &[9, 2, 3], bob()), (2, 0));
    }

    #[test]
    fn a_short_common_beginning_is_copied_and_the_longer_conversation_stays() {
        let mut slots = Slots::new(2, 100);
        run(&mut slots, &[1, 2, 3, 4, 5, 6, 7, 8], ANNE);
        let placement = slots.place(&[1, 2, 9], ANNE, 2, 1).unwrap();
        assert_eq!(placement, Placement { slots: vec![1], reused: Some((0, 2)), evicted: vec![] });
        // Also from a request that is still running, and none is idle but that.
        slots.extend(1, &[9]);
        let placement = slots.place(&[1, 2, 9, 10], ANNE, 2, 1).unwrap();
        assert_eq!(placement.reused, Some((1, 3)));
        assert_eq!(placement.slots, [0]);
        assert!(slots.place(&[1], ANNE, 2, 1).is_none());
    }

    #[test]
    fn cells_are_never_promised_twice_and_idle_ones_are_given_up_oldest_first() {
        let mut slots = Slots::new(4, 20);
        run(&mut slots, &[1; 6], ANNE);
        run(&mut slots, &[2; 6], ANNE);
        run(&mut slots, &[3; 6], ANNE);
        let placement = slots.place(&[4; 6], ANNE, 4, 1).unwrap();
        assert_eq!(placement, Placement { slots: vec![3], reused: None, evicted: vec![0, 1] });
        assert!(slots.place(&[5; 6], ANNE, 5, 1).is_none());
        assert_eq!(slots.place(&[5; 6], ANNE, 4, 1).unwrap().evicted, [2]);
    }

    #[test]
    fn choices_share_the_prompt() {
        let mut slots = Slots::new(4, 20);
        assert!(slots.place(&[1; 5], None, 6, 3).is_none());
        let placement = slots.place(&[1; 5], None, 5, 3).unwrap();
        assert_eq!(placement.slots, [0, 1, 2]);
        assert!(slots.place(&[1], None, 1, 2).is_none());
        assert!(!slots.release(1));
        slots.forget();
        assert!(slots.place(&[1; 5], None, 5, 3).is_some());
    }
}
