//! rmctrl.
