//! The same work on several things at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Fault;

/// Does something with every item, by a few threads, and gives the results in the order of the items. After an error no
/// further item is begun.
pub(crate) fn map<T: Sync, R: Send>(
    threads: usize,
    items: &[T],
    work: impl Fn(usize, &T) -> Result<R, Fault> + Sync,
) -> Result<Vec<R>, Fault> {
    let next = AtomicUsize::new(0);
    let some = || -> Result<Vec<(usize, R)>, Fault> {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(number) else { return Ok(done) };
            let result = work(number, item).inspect_err(|_| next.store(items.len(), Ordering::Relaxed));
            done.push((number, result?));
        }
    };
    let parts: Vec<Result<_, Fault>> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(items.len())).map(|_| scope.spawn(some)).collect();
        let own = some();
        let others = others.into_iter().map(|other| other.join().unwrap_or_else(|_| Err(Fault::new("a thread died"))));
        std::iter::once(own).chain(others).collect()
    });
    let mut done: Vec<(usize, R)> = Vec::with_capacity(items.len());
    for part in parts {
        done.extend(part?);
    }
    done.sort_by_key(|(number, _)| *number);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_of_their_items_and_an_error_ends_the_work() {
        let items: Vec<usize> = (0..100).collect();
        for threads in [0, 1, 3, 200] {
            assert_eq!(
                map(threads, &items, |number, item| Ok(number + item)).unwrap(),
                (0..200).step_by(2).collect::<Vec<_>>()
            );
            let begun = AtomicUsize::new(0);
            let failed = map(threads, &items, |_, item| {
                begun.fetch_add(1, Ordering::Relaxed);
                if *item == 5 { Err(Fault::new("five")) } else { Ok(()) }
            });
            assert!(failed.is_err());
            assert!(threads > 1 || begun.into_inner() == 6);
        }
        assert!(map(2, &[] as &[u8], |_, _| Ok(())).unwrap().is_empty());
    }
}
