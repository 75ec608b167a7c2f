//! `sluice demo`: the first thing that anybody runs.
