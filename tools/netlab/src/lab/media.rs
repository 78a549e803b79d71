// SPDX-License-Identifier: Apache-2.0
//! The people of a call: each has its own colour and pitch, so that a picture and a sound name who they are.
//!
//! The files are what Chromium's fake camera and microphone loop over. Frequencies are no multiples of each other: a
//! harmonic is nobody's voice.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Picture size and rate of every camera.
const WIDTH: usize = 640;
const HEIGHT: usize = 360;
const FRAMES_PER_SECOND: usize = 15;
/// Frames after which a camera file repeats: the bar has crossed the picture once.
const FRAMES: usize = 40;
/// Samples per second of the microphone files.
const SAMPLE_RATE: u32 = 48_000;
/// How far a pitch may be off, in hertz.
pub(crate) const PITCH_TOLERANCE_HZ: f64 = 15.0;
/// How far each of red, green and blue may be off: chroma subsampling and quantisation of a low-rate encoder.
pub(crate) const COLOUR_TOLERANCE: i64 = 48;

/// How to recognise one participant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Person {
    /// Red, green, blue.
    pub(crate) colour: [u8; 3],
    /// Hertz.
    pub(crate) pitch: u32,
}

/// At most this many participants can be told apart.
pub(crate) const PEOPLE: [Person; 6] = [
    Person { colour: [200, 40, 40], pitch: 440 },
    Person { colour: [40, 170, 60], pitch: 620 },
    Person { colour: [50, 70, 210], pitch: 830 },
    Person { colour: [210, 190, 40], pitch: 1070 },
    Person { colour: [190, 60, 190], pitch: 1310 },
    Person { colour: [40, 180, 190], pitch: 1530 },
];

impl Person {
    /// True when a colour is this person's.
    pub(crate) fn has_colour(&self, seen: [i64; 3]) -> bool {
        self.colour.iter().zip(seen).all(|(own, seen)| (i64::from(*own) - seen).abs() <= COLOUR_TOLERANCE)
    }

    /// Writes `NAME.y4m` and `NAME.wav` into `folder`, unless they are there, and returns their paths.
    pub(crate) fn write_files(&self, folder: &Path) -> Result<(PathBuf, PathBuf)> {
        let [red, green, blue] = self.colour;
        let camera = folder.join(format!("camera-{red}-{green}-{blue}.y4m"));
        let microphone = folder.join(format!("microphone-{}.wav", self.pitch));
        write_once(&camera, |out| write_camera(out, yuv(self.colour)))?;
        write_once(&microphone, |out| write_tone(out, self.pitch))?;
        Ok((camera, microphone))
    }
}

/// Writes beside and renames: a file with the final name is always whole.
fn write_once(path: &Path, write: impl FnOnce(&mut BufWriter<std::fs::File>) -> Result<()>) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let part = path.with_extension("part");
    let mut out = BufWriter::new(std::fs::File::create(&part).with_context(|| format!("write {}", part.display()))?);
    write(&mut out)?;
    out.flush()?;
    std::fs::rename(&part, path)?;
    Ok(())
}

/// BT.601, limited range, which Chromium takes y4m files for.
fn yuv([red, green, blue]: [u8; 3]) -> [u8; 3] {
    let [red, green, blue] = [red, green, blue].map(i32::from);
    let luma = (66 * red + 129 * green + 25 * blue + 128) / 256 + 16;
    let cb = (-38 * red - 74 * green + 112 * blue + 128) / 256 + 128;
    let cr = (112 * red - 94 * green - 18 * blue + 128) / 256 + 128;
    [luma, cb, cr].map(|value| u8::try_from(value.clamp(16, 240)).unwrap_or(128))
}

/// A still colour with a grey bar that moves below the middle, so that the encoder has work in every frame.
fn write_camera(out: &mut impl Write, [luma, cb, cr]: [u8; 3]) -> Result<()> {
    writeln!(out, "YUV4MPEG2 W{WIDTH} H{HEIGHT} F{FRAMES_PER_SECOND}:1 Ip A1:1 C420mpeg2")?;
    for frame in 0..FRAMES {
        writeln!(out, "FRAME")?;
        let bar = frame * WIDTH / FRAMES..frame * WIDTH / FRAMES + 80;
        for (plane, (value, grey, scale)) in [(luma, 126, 1), (cb, 128, 2), (cr, 128, 2)].into_iter().enumerate() {
            debug_assert!(plane < 3);
            for row in 0..HEIGHT / scale {
                let in_bar = (300..340).contains(&(row * scale));
                let line: Vec<u8> = (0..WIDTH / scale)
                    .map(|column| if in_bar && bar.contains(&(column * scale)) { grey } else { value })
                    .collect();
                out.write_all(&line)?;
            }
        }
    }
    Ok(())
}

/// One second of a sine at a third of full scale; whole cycles, so that the loop has no click.
fn write_tone(out: &mut impl Write, pitch: u32) -> Result<()> {
    let bytes = SAMPLE_RATE * 2;
    out.write_all(b"RIFF")?;
    out.write_all(&(36 + bytes).to_le_bytes())?;
    out.write_all(b"WAVEfmt ")?;
    out.write_all(&16_u32.to_le_bytes())?;
    // PCM, one channel.
    out.write_all(&[1, 0, 1, 0])?;
    out.write_all(&SAMPLE_RATE.to_le_bytes())?;
    out.write_all(&bytes.to_le_bytes())?;
    out.write_all(&[2, 0, 16, 0])?;
    out.write_all(b"data")?;
    out.write_all(&bytes.to_le_bytes())?;
    for sample in 0..SAMPLE_RATE {
        let turn = f64::from(sample) * f64::from(pitch) / f64::from(SAMPLE_RATE) * std::f64::consts::TAU;
        #[expect(clippy::cast_possible_truncation, reason = "a sine times 10,000 fits 16 bits")]
        let value = (turn.sin() * 10_000.0) as i16;
        out.write_all(&value.to_le_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_people_look_or_sound_alike() {
        for (at, one) in PEOPLE.iter().enumerate() {
            for other in &PEOPLE[at + 1..] {
                assert!(!one.has_colour(other.colour.map(i64::from)), "{one:?} {other:?}");
                let apart = f64::from(one.pitch.abs_diff(other.pitch));
                assert!(apart > 4.0 * PITCH_TOLERANCE_HZ, "{one:?} {other:?}");
                assert!(other.pitch % one.pitch != 0 && one.pitch % other.pitch != 0, "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn a_camera_file_has_a_header_and_whole_frames() {
        let mut file = Vec::new();
        write_camera(&mut file, yuv(PEOPLE[0].colour)).expect("write");
        let header = file.iter().position(|byte| *byte == b'\n').expect("header") + 1;
        assert_eq!((file.len() - header) % (6 + WIDTH * HEIGHT * 3 / 2), 0);
    }
}
