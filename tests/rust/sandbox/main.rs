//! Processes that have given up their rights: this program starts itself as each of them, since a
//! process can do it once, and while it has one thread only. So it is a test program of its own
//! making: it runs its checks one after the other, and takes a part of a name to choose by.

#[cfg(test)]
mod checks;
#[cfg(test)]
mod worker;

fn main() {
    #[cfg(test)]
    checks::run();
}
