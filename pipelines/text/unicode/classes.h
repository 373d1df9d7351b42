// SPDX-License-Identifier: Apache-2.0
// Letters, numbers and lower case as Hugging Face's `tokenizers` 0.23 has them: by tables of their own, since
// ids must not depend on the Unicode version of the machine's ICU.
#pragma once

namespace sagelab::unicode {

bool is_letter(char32_t c);  // \p{L} of its regex
bool is_number(char32_t c);  // \p{N}
bool is_other(char32_t c);   // [^\s\p{L}\p{N}]
// Of one code point alone. U+0130 (I with a dot), the one that becomes two, comes back as it is.
char32_t lower_case(char32_t c);

}  // namespace sagelab::unicode
