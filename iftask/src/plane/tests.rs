//! The whole pipeline in memory.

mod clear;
mod encrypted;
mod kernel;
mod life;
mod moves;
mod outputs;
mod paths;
mod runs;
mod speed;
mod world;
mod xdp;
