//! Payloads that stay where the caller has them: `Bytes` whose memory is lent by the C++ side and given back, exactly
//! once, when raft-rs has dropped the last entry that refers to it.
use bytes::Bytes;
use std::ffi::c_void;

/// Must not call back into the engine and must not unwind.
pub type Release = extern "C" fn(context: *mut c_void, data: *const u8);

#[derive(Clone, Copy)]
pub struct Lender {
    pub release: Release,
    pub context: *mut c_void,
}

struct Lent {
    data: *const u8,
    size: usize,
    lender: Lender,
}

// One thread at a time uses an engine, and no payload leaves its engine: the reference moves with it.
unsafe impl Send for Lent {}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        unsafe { std::slice::from_raw_parts(self.data, self.size) }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        (self.lender.release)(self.lender.context, self.data);
    }
}

/// # Safety
/// `data` is readable and unchanged until `lender` gets it back. Empty payloads are not lent, so never given back.
pub unsafe fn borrow(data: *const u8, size: usize, lender: Lender) -> Bytes {
    if size == 0 {
        return Bytes::new();
    }
    Bytes::from_owner(Lent { data, size, lender })
}
