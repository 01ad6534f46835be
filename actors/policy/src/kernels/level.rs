/// Which vector instructions the kernels use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every processor of the target has.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512F.
    Avx512,
}

impl Level {
    /// The best that this machine has.
    pub fn best() -> Self {
        Self::available().last().copied().unwrap_or(Self::Portable)
    }

    /// All that this machine has, the best one last.
    pub fn available() -> &'static [Self] {
        const ALL: [Level; 3] = [Level::Portable, Level::Avx2, Level::Avx512];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let levels = 1 + usize::from(avx2) + usize::from(avx2 && is_x86_feature_detected!("avx512f"));
            &ALL[..levels]
        }
        #[cfg(not(target_arch = "x86_64"))]
        &ALL[..1]
    }
}

/// Defines `fn name(level, ...)`, which runs `body::<V>(...)` with the lanes of that level, compiled for its instructions.
macro_rules! at_each_level {
    ($(#[$doc:meta])* $vis:vis unsafe fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)? = $body:ident) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// As of the body; and the machine has the level, which is true of all in [`Level::available`].
        $vis unsafe fn $name(level: $crate::kernels::Level, $($arg: $type),*) $(-> $out)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx2,fma")]
            unsafe fn avx512($($arg: $type),*) $(-> $out)? {
                // SAFETY: the caller's.
                unsafe { $body::<$crate::kernels::lanes::Avx512>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2($($arg: $type),*) $(-> $out)? {
                // SAFETY: the caller's.
                unsafe { $body::<$crate::kernels::lanes::Avx2>($($arg),*) }
            }
            // SAFETY: the caller's.
            unsafe {
                match level {
                    #[cfg(target_arch = "x86_64")]
                    $crate::kernels::Level::Avx512 => avx512($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::kernels::Level::Avx2 => avx2($($arg),*),
                    _ => $body::<$crate::kernels::lanes::Portable>($($arg),*),
                }
            }
        }
    };
}

pub(super) use at_each_level;
