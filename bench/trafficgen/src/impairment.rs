// SPDX-License-Identifier: Apache-2.0
//! What a network between publisher and server does to packets: some never arrive, some arrive behind later ones.

use anyhow::{Result, ensure};
use tools_netlab::random::Random;

/// How often, in parts per million of the packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Impairment {
    /// Packets that are numbered and not sent.
    pub loss_ppm: u32,
    /// How many packets are lost together.
    pub loss_run: u32,
    /// Packets that are sent later than they should be.
    pub reorder_ppm: u32,
    /// Behind how many later packets of the same track.
    pub reorder_by: u32,
}

impl Default for Impairment {
    fn default() -> Self {
        Self { loss_ppm: 0, loss_run: 1, reorder_ppm: 0, reorder_by: 3 }
    }
}

impl Impairment {
    /// Refuses what no network does.
    ///
    /// # Errors
    /// When shares are above one half, or runs have no length.
    pub fn check(&self) -> Result<()> {
        ensure!(self.loss_ppm <= 500_000, "a loss of more than 50 % leaves nothing to measure");
        ensure!(self.reorder_ppm <= 500_000, "more than 50 % out of order is not an order any more");
        ensure!(
            self.loss_run > 0 && self.reorder_by > 0,
            "a run of lost packets, and a delay in packets, is at least 1"
        );
        Ok(())
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It leaves.
    Leaves,
    /// It is lost.
    Lost,
    /// It leaves behind so many later ones.
    Waits(u32),
}

/// Decides about the packets of one track.
#[derive(Clone, Debug)]
pub struct Dice {
    impairment: Impairment,
    random: Random,
    /// Packets of the present run that are still to be lost.
    losing: u32,
}

impl Dice {
    /// The same seed gives the same fates.
    #[must_use]
    pub fn new(impairment: Impairment, seed: u64) -> Self {
        Self { impairment, random: Random::new(seed), losing: 0 }
    }

    /// The fate of the next packet.
    pub fn roll(&mut self) -> Fate {
        let Impairment { loss_ppm, loss_run, reorder_ppm, reorder_by } = self.impairment;
        if self.losing > 0 {
            self.losing -= 1;
            return Fate::Lost;
        }
        // A run begins at packets outside of runs only: `begins × run ÷ (1 + begins × (run − 1)) = loss` solved for `begins`.
        let kept_ppm = u64::from(1_000_000 - loss_ppm);
        let begins = u64::from(loss_ppm) * 1_000_000 / (u64::from(loss_run) * kept_ppm + u64::from(loss_ppm)).max(1);
        if loss_ppm > 0 && self.random.below(1_000_000) < begins {
            self.losing = loss_run - 1;
            return Fate::Lost;
        }
        if reorder_ppm > 0 && self.random.chance_ppm(reorder_ppm) {
            return Fate::Waits(reorder_by);
        }
        Fate::Leaves
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(impairment: Impairment) -> (f64, f64, Vec<usize>) {
        let mut dice = Dice::new(impairment, 7);
        let fates: Vec<_> = (0..200_000).map(|_| dice.roll()).collect();
        let share =
            |is: fn(&Fate) -> bool| f64::from(u32::try_from(fates.iter().filter(|f| is(f)).count()).unwrap()) / 2e5;
        let runs = fates.chunk_by(|a, b| a == b).filter(|run| run[0] == Fate::Lost).map(<[_]>::len).collect();
        (share(|fate| *fate == Fate::Lost), share(|fate| matches!(fate, Fate::Waits(_))), runs)
    }

    #[test]
    fn the_shares_are_those_that_were_asked_for() {
        let (lost, waits, runs) =
            shares(Impairment { loss_ppm: 20_000, loss_run: 1, reorder_ppm: 50_000, reorder_by: 2 });
        assert!((lost - 0.02).abs() < 0.002 && (waits - 0.05).abs() < 0.004, "{lost} {waits}");
        assert!(runs.iter().filter(|len| **len == 1).count() * 10 > runs.len() * 9, "alone");
        let (lost, _, runs) = shares(Impairment { loss_ppm: 100_000, loss_run: 5, ..Impairment::default() });
        assert!((lost - 0.1).abs() < 0.01, "{lost}");
        assert!(runs.iter().all(|len| *len >= 5 || *len == runs[runs.len() - 1]), "in runs");
        assert_eq!(shares(Impairment::default()).2, [0; 0]);
    }
}
