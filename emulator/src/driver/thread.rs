//! What the driver keeps per thread: its current contexts, whether it runs a host function, its capture mode.

use std::cell::{Cell, RefCell};

use super::abi::Handle;

thread_local! {
    static STACK: RefCell<Vec<Handle>> = const { RefCell::new(Vec::new()) };
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
    static CAPTURE_MODE: Cell<u32> = const { Cell::new(0) };
}

/// The contexts that are current on the calling thread.
pub struct ContextStack;

impl ContextStack {
    /// The current context.
    pub fn top() -> Option<Handle> {
        STACK.with_borrow(|stack| stack.last().copied())
    }

    /// Makes `ctx` current above the present one.
    pub fn push(ctx: Handle) {
        STACK.with_borrow_mut(|stack| stack.push(ctx));
    }

    /// Takes the current context away.
    pub fn pop() -> Option<Handle> {
        STACK.with_borrow_mut(Vec::pop)
    }

    /// Replaces the current context; `None` takes it away.
    pub fn replace(ctx: Option<Handle>) {
        STACK.with_borrow_mut(|stack| {
            stack.pop();
            stack.extend(ctx);
        });
    }
}

/// Runs a host function of the program. Driver calls that it makes on this thread answer `NOT_PERMITTED`.
pub fn in_callback(run: impl FnOnce()) {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            IN_CALLBACK.set(false);
        }
    }
    IN_CALLBACK.set(true);
    let _leave = Leave;
    run();
}

/// Whether this thread is inside a host function of a stream.
pub fn is_in_callback() -> bool {
    IN_CALLBACK.get()
}

/// The thread's `CUstreamCaptureMode` for calls that would disturb a capture.
pub fn capture_mode() -> u32 {
    CAPTURE_MODE.get()
}

/// Sets what [`capture_mode`] returns and gives the old mode back.
pub fn exchange_capture_mode(mode: u32) -> u32 {
    CAPTURE_MODE.replace(mode)
}
