//! The whole pipeline in memory.

mod clear;
mod encrypted;
mod kernel;
mod life;
mod speed;
mod world;
