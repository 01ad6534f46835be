//! Attention over packed rows `[prompt | answer 1 | answer 2 ...]` that lie one behind another without padding: all that works
//! token by token (the projections, the norms, the MLP) sees real tokens only, each once.
//!
//! For the products between tokens, a row falls into sequences: the prompt, and each answer with the keys of its prompt before
//! its own, so that no answer is compared with another. Sequences of like size lie side by side in a *tile*, and there alone the
//! shorter ones are filled up. Where a prompt is so long against its answers that copying its keys for each costs more than
//! comparing all answers with each other, the whole row is one sequence under a mask.

use tch::{Device, Kind, Tensor};

use crate::attention::mix;
use crate::{Attend, PolicyError};

/// What copying a key and its value costs, forward and backward, in products of a query and a key.
const COPY: usize = 32;

/// A sequence joins a tile if that makes it at most so many times as costly, or if the tile has so few products that calls cost
/// more than arithmetic.
const FILL: usize = 2;
const SMALL: usize = 1 << 14;

/// See the module's documentation.
#[derive(Debug)]
pub struct SegmentAttention {
    tiles: Vec<Tile>,
    /// (T): where in the tiles' queries, one tile behind another, each token is.
    places: Tensor,
}

/// Tokens whose queries are answered by the keys of those before them and their own.
#[derive(Clone, Debug)]
struct Sequence {
    /// The keys: numbers of tokens. The queries are the last ones.
    keys: Vec<usize>,
    queries: usize,
}

#[derive(Debug)]
struct Tile {
    rows: i64,
    /// (rows · longest queries): which token stands there. Filled up with the last one of its sequence.
    queries: Tensor,
    /// (rows · longest keys)
    keys: Tensor,
    /// Of the queries, (rows, Q, 1), and of the keys, (rows, 1, K).
    tokens: [Tokens; 2],
    /// Whether every query sees all keys up to its own, so that no mask is needed without a window.
    plain: bool,
    /// Masks by window, (rows, 1, Q, K), each made when the first layer asks: 0 where a query sees a key, else −∞.
    masks: Vec<(Option<i64>, Tensor)>,
}

/// What decides which token sees which.
#[derive(Debug)]
struct Tokens {
    /// In the sequence.
    place: Tensor,
    segment: Tensor,
    position: Tensor,
}

impl SegmentAttention {
    /// `segments`: of every token, 0 for the prompt, 1.. for the answers of a row. `rows`: their lengths, in the order of the
    /// tokens.
    pub fn new(segments: &[i64], rows: &[usize], device: Device) -> Result<Self, PolicyError> {
        if rows.iter().sum::<usize>() != segments.len() || rows.contains(&0) {
            let problem = format!("rows of {rows:?} do not divide {} tokens", segments.len());
            return Err(PolicyError::Tensor(problem));
        }
        let mut sequences = Vec::new();
        let mut positions = Vec::with_capacity(segments.len());
        let mut start = 0;
        for length in rows {
            sequences.extend(sequences_of(start, &segments[start..start + length], &mut positions));
            start += length;
        }
        // Stable, so that all is a function of the tokens alone.
        sequences.sort_by_key(|sequence| std::cmp::Reverse((sequence.queries, sequence.keys.len())));
        let mut places = vec![0i64; segments.len()];
        let (mut tiles, mut first) = (Vec::new(), 0);
        for own in tile(&sequences) {
            let longest = own.iter().map(|s| s.queries).max().unwrap_or(0);
            for sequence in own {
                for (place, token) in sequence.own().iter().enumerate() {
                    places[*token] = (first + place) as i64;
                }
                first += longest;
            }
            tiles.push(Tile::new(own, segments, &positions, device)?);
        }
        Ok(Self { tiles, places: Tensor::f_from_slice(&places)?.f_to_device(device)? })
    }
}

impl Attend for SegmentAttention {
    /// With B = 1: `query`: (1, T, heads, D), and so on.
    fn attend(
        &mut self,
        _layer: usize,
        window: Option<i64>,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
    ) -> Result<Tensor, PolicyError> {
        let of_tiles = self.tiles.iter_mut().map(|tile| tile.attend(window, [query, key, value]));
        let mixed = Tensor::f_cat(&of_tiles.collect::<Result<Vec<_>, _>>()?, 0)?;
        // (queries of all tiles, heads · D) -> (1, T, heads · D)
        Ok(Tensor::f_embedding(&mixed, &self.places, -1, false, false)?.f_unsqueeze(0)?)
    }
}

impl Sequence {
    /// The tokens whose queries it has.
    fn own(&self) -> &[usize] {
        &self.keys[self.keys.len() - self.queries..]
    }

    /// Whether each of its queries sees all keys up to its own: no key without a query, no two answers.
    fn is_causal(&self, segments: &[i64]) -> bool {
        let last = self.keys.last().map_or(0, |token| segments[*token]);
        self.queries == self.keys.len() && self.keys.iter().all(|token| [0, last].contains(&segments[*token]))
    }
}

/// The sequences of the row that begins with token `start`; pushes the position of each of its tokens.
fn sequences_of(start: usize, segments: &[i64], positions: &mut Vec<i64>) -> Vec<Sequence> {
    let prompt = segments.iter().take_while(|segment| **segment == 0).count();
    let mut sequences = vec![Sequence { keys: (start..start + prompt).collect(), queries: prompt }];
    positions.extend((0..prompt).map(|place| place as i64));
    let mut begin = prompt;
    while begin < segments.len() {
        let length = segments[begin..].iter().take_while(|segment| **segment == segments[begin]).count();
        let own = start + begin..start + begin + length;
        positions.extend((prompt..prompt + length).map(|place| place as i64));
        sequences.push(Sequence { keys: (start..start + prompt).chain(own).collect(), queries: length });
        begin += length;
    }
    let apart: usize = sequences.iter().map(|s| s.keys.len() * (s.queries + COPY)).sum();
    if apart > segments.len() * segments.len() {
        return vec![Sequence { keys: (start..start + segments.len()).collect(), queries: segments.len() }];
    }
    sequences.retain(|sequence| sequence.queries > 0);
    sequences
}

/// Divides sequences, those with the most queries first, into tiles of like ones.
fn tile(sequences: &[Sequence]) -> Vec<&[Sequence]> {
    let mut tiles = Vec::new();
    let mut rest = sequences;
    while let Some(first) = rest.first() {
        let mut longest = 0;
        let joins = |(count, sequence): &(usize, &Sequence)| {
            longest = longest.max(sequence.keys.len());
            let filled = first.queries * longest;
            filled <= FILL * sequence.queries * sequence.keys.len() || (count + 1) * filled <= SMALL
        };
        let count = rest.iter().enumerate().take_while(joins).count().max(1);
        let (own, behind) = rest.split_at(count);
        tiles.push(own);
        rest = behind;
    }
    tiles
}

impl Tile {
    fn new(sequences: &[Sequence], segments: &[i64], positions: &[i64], device: Device) -> Result<Self, PolicyError> {
        let most = |size: fn(&Sequence) -> usize| sequences.iter().map(size).max().unwrap_or(0);
        let (queries, keys) = (most(|s| s.queries), most(|s| s.keys.len()));
        let [mut of_query, mut of_key] = [(); 2].map(|()| Laid::default());
        for sequence in sequences {
            let before = sequence.keys.len() - sequence.queries;
            of_query.lay(sequence.own(), before, queries, false);
            of_key.lay(&sequence.keys, 0, keys, true);
        }
        let rows = sequences.len() as i64;
        let tokens = |laid: &Laid, shape: [i64; 3]| -> Result<Tokens, PolicyError> {
            let look = |of: &[i64]| laid.tokens.iter().map(|token| of[*token as usize]).collect::<Vec<i64>>();
            let to = |values: &[i64]| Tensor::f_from_slice(values)?.f_to_device(device)?.f_view(shape);
            Ok(Tokens { place: to(&laid.places)?, segment: to(&look(segments))?, position: to(&look(positions))? })
        };
        let plain = sequences.iter().all(|sequence| sequence.is_causal(segments));
        let index = |laid: &Laid| Tensor::f_from_slice(&laid.tokens)?.f_to_device(device);
        Ok(Self {
            rows,
            queries: index(&of_query)?,
            keys: index(&of_key)?,
            tokens: [tokens(&of_query, [rows, queries as i64, 1])?, tokens(&of_key, [rows, 1, keys as i64])?],
            plain,
            masks: Vec::new(),
        })
    }

    fn attend(&mut self, window: Option<i64>, [query, key, value]: [&Tensor; 3]) -> Result<Tensor, PolicyError> {
        let rows = self.rows;
        let lay = |x: &Tensor, index: &Tensor| -> Result<Tensor, PolicyError> {
            let (_, tokens, heads, width) = x.size4()?;
            let flat = x.f_view([tokens, heads * width])?;
            // An embedding is a copy of rows whose backward is fast on a CPU.
            let laid = Tensor::f_embedding(&flat, index, -1, false, false)?;
            Ok(laid.f_view([rows, -1, heads, width])?)
        };
        let (query, key, value) = (lay(query, &self.queries)?, lay(key, &self.keys)?, lay(value, &self.keys)?);
        let mask = self.mask(window, query.kind())?;
        Ok(mix(&query, &key, &value, mask)?.f_flatten(0, 1)?)
    }

    fn mask(&mut self, window: Option<i64>, kind: Kind) -> Result<Option<&Tensor>, PolicyError> {
        if self.plain && window.is_none() {
            return Ok(None);
        }
        if !self.masks.iter().any(|(of, _)| *of == window) {
            let [query, key] = &self.tokens;
            // What stands before a query, itself included, in the prompt and in its own segment.
            let same = key.segment.f_eq_tensor(&query.segment)?.f_logical_or(&key.segment.f_eq(0)?)?;
            let mut seen = key.place.f_le_tensor(&query.place)?.f_logical_and(&same)?;
            if let Some(window) = window {
                seen = seen.f_logical_and(&key.position.f_gt_tensor(&query.position.f_sub_scalar(window)?)?)?;
            }
            let hidden = seen.f_logical_not()?;
            let zeros = Tensor::f_zeros(hidden.size(), (kind, hidden.device()))?;
            self.masks.push((window, zeros.f_masked_fill(&hidden, f64::NEG_INFINITY)?.f_unsqueeze(1)?));
        }
        Ok(self.masks.iter().find(|(of, _)| *of == window).map(|(_, mask)| mask))
    }
}

/// Tokens of sequences side by side, filled up.
#[derive(Default)]
struct Laid {
    tokens: Vec<i64>,
    places: Vec<i64>,
}

impl Laid {
    /// `before`: the place of the first. What fills up is as the last one, and as a key (`hidden`) seen by nobody.
    fn lay(&mut self, tokens: &[usize], before: usize, length: usize, hidden: bool) {
        for number in 0..length {
            let last = number.min(tokens.len() - 1);
            self.tokens.push(tokens[last] as i64);
            let is_filling = number >= tokens.len();
            self.places.push(if hidden && is_filling { i64::MAX } else { (before + last) as i64 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PackedAttention;

    fn distance(one: &Tensor, other: &Tensor) -> f64 {
        f64::try_from((one - other).abs().max()).unwrap()
    }

    /// Output and gradients by query, key and value of rows, each row alone under a mask or all of them in tiles.
    fn run(segments: &[i64], rows: &[usize], window: Option<i64>, alone: bool) -> [Tensor; 4] {
        let total = segments.len() as i64;
        let wave = |heads: i64, step: f64| {
            let numbers = Tensor::arange(total * heads * 4, (Kind::Double, Device::Cpu)) * step;
            (numbers.sin() * 3.0).view([1, total, heads, 4]).set_requires_grad(true)
        };
        let (query, key, value) = (wave(4, 1.3), wave(2, 2.1), wave(2, 0.7));
        let mixed = if alone {
            let mut start = 0;
            let of_row = |length: &usize| {
                let first = start;
                start += length;
                let part = |x: &Tensor| x.narrow(1, first as i64, *length as i64);
                let own = Tensor::from_slice(&segments[first..start]).unsqueeze(0);
                let mut attention = PackedAttention::segmented(&own).unwrap();
                attention.attend(0, window, &part(&query), &part(&key), &part(&value)).unwrap()
            };
            Tensor::cat(&rows.iter().map(of_row).collect::<Vec<Tensor>>(), 1)
        } else {
            let mut attention = SegmentAttention::new(segments, rows, Device::Cpu).unwrap();
            attention.attend(0, window, &query, &key, &value).unwrap()
        };
        let weights = Tensor::arange(mixed.numel() as i64, (Kind::Double, Device::Cpu)).sin().view_as(&mixed);
        (&mixed * weights).sum(None).backward();
        [mixed.detach(), query.grad(), key.grad(), value.grad()]
    }

    #[test]
    fn rows_in_tiles_are_rows_alone_forward_and_backward() {
        // Prompts and answers of many lengths, answers far longer than their prompt and far shorter.
        let shapes: [(usize, &[usize]); 5] =
            [(3, &[4, 1, 40]), (9, &[]), (70, &[2, 3]), (5, &[130, 90, 110, 1]), (1, &[1])];
        let (mut segments, mut rows) = (Vec::new(), Vec::new());
        for (prompt, answers) in shapes {
            segments.extend(std::iter::repeat_n(0i64, prompt));
            for (number, length) in (1..).zip(answers) {
                segments.extend(std::iter::repeat_n(number, *length));
            }
            rows.push(prompt + answers.iter().sum::<usize>());
        }
        for window in [None, Some(2), Some(50), Some(1000)] {
            for (tiled, alone) in run(&segments, &rows, window, false).iter().zip(&run(&segments, &rows, window, true))
            {
                assert_eq!(tiled.size(), alone.size());
                assert!(distance(tiled, alone) < 1e-12, "window {window:?}: {}", distance(tiled, alone));
            }
        }
    }

    #[test]
    fn answers_go_apart_or_together_as_is_cheaper_and_like_ones_share_a_tile() {
        let of = |prompt: usize, answers: &[usize]| {
            let mut segments = vec![0; prompt];
            for (number, length) in (1..).zip(answers) {
                segments.extend(std::iter::repeat_n(number, *length));
            }
            sequences_of(0, &segments, &mut Vec::new())
        };
        assert_eq!(of(1000, &[3; 8]).len(), 1, "a long prompt is not copied eight times for three tokens");
        let apart = of(64, &[100; 8]);
        assert_eq!(apart.len(), 9);
        assert_eq!((apart[1].queries, apart[1].keys.len()), (100, 164));
        let mut apart = apart;
        apart.rotate_left(1);
        let sizes = |sequences: &[Sequence]| tile(sequences).iter().map(|own| own.len()).collect::<Vec<usize>>();
        assert_eq!(sizes(&apart), [8, 1], "the answers, and their prompt");
        let mut unlike = of(10, &[300, 290, 280, 50, 4, 3]);
        unlike.sort_by_key(|sequence| std::cmp::Reverse(sequence.queries));
        assert_eq!(sizes(&unlike), [3, 4], "three long ones, and all that is small");
    }

    #[test]
    fn rows_that_do_not_fit_the_tokens_are_refused() {
        let error = SegmentAttention::new(&[0, 0, 1], &[2, 2], Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("[2, 2]") && error.contains("3 tokens"), "{error}");
    }
}
