// SPDX-License-Identifier: Apache-2.0
// What Unicode 17 says of grapheme clusters and ICU 72 (Unicode 15) does not. Hugging Face's `tokenizers`
// counts clusters by Unicode 17; ids must not depend on the machine's ICU.
#pragma once

#include <unicode/uchar.h>

#include "pipelines/text/unicode/ranges.h"

namespace sagelab::unicode {

struct BreakRange {
  char32_t first, last;
  UGraphemeClusterBreak gcb;
};

// Grapheme_Cluster_Break of what was assigned or changed after Unicode 15.
inline constexpr BreakRange kNewBreaks[] = {{0x897, 0x897, U_GCB_EXTEND},
                                            {0xCC0, 0xCC0, U_GCB_EXTEND},
                                            {0xCC7, 0xCC8, U_GCB_EXTEND},
                                            {0xCCA, 0xCCB, U_GCB_EXTEND},
                                            {0x1715, 0x1715, U_GCB_EXTEND},
                                            {0x1734, 0x1734, U_GCB_EXTEND},
                                            {0x1ACF, 0x1ADD, U_GCB_EXTEND},
                                            {0x1AE0, 0x1AEB, U_GCB_EXTEND},
                                            {0x1B3B, 0x1B3B, U_GCB_EXTEND},
                                            {0x1B3D, 0x1B3D, U_GCB_EXTEND},
                                            {0x1B43, 0x1B44, U_GCB_EXTEND},
                                            {0x1BAA, 0x1BAA, U_GCB_EXTEND},
                                            {0x1BF2, 0x1BF3, U_GCB_EXTEND},
                                            {0xA953, 0xA953, U_GCB_EXTEND},
                                            {0xA9C0, 0xA9C0, U_GCB_EXTEND},
                                            {0x10D69, 0x10D6D, U_GCB_EXTEND},
                                            {0x10EFA, 0x10EFC, U_GCB_EXTEND},
                                            {0x111C0, 0x111C0, U_GCB_EXTEND},
                                            {0x11235, 0x11235, U_GCB_EXTEND},
                                            {0x1134D, 0x1134D, U_GCB_EXTEND},
                                            {0x113B8, 0x113B8, U_GCB_EXTEND},
                                            {0x113B9, 0x113BA, U_GCB_SPACING_MARK},
                                            {0x113BB, 0x113C0, U_GCB_EXTEND},
                                            {0x113C2, 0x113C2, U_GCB_EXTEND},
                                            {0x113C5, 0x113C5, U_GCB_EXTEND},
                                            {0x113C7, 0x113C9, U_GCB_EXTEND},
                                            {0x113CA, 0x113CA, U_GCB_SPACING_MARK},
                                            {0x113CC, 0x113CD, U_GCB_SPACING_MARK},
                                            {0x113CE, 0x113D0, U_GCB_EXTEND},
                                            {0x113D1, 0x113D1, U_GCB_PREPEND},
                                            {0x113D2, 0x113D2, U_GCB_EXTEND},
                                            {0x113E1, 0x113E2, U_GCB_EXTEND},
                                            {0x116B6, 0x116B6, U_GCB_EXTEND},
                                            {0x1171E, 0x1171E, U_GCB_SPACING_MARK},
                                            {0x1193D, 0x1193D, U_GCB_EXTEND},
                                            {0x11A3A, 0x11A3A, U_GCB_OTHER},
                                            {0x11B60, 0x11B60, U_GCB_EXTEND},
                                            {0x11B61, 0x11B61, U_GCB_SPACING_MARK},
                                            {0x11B62, 0x11B64, U_GCB_EXTEND},
                                            {0x11B65, 0x11B65, U_GCB_SPACING_MARK},
                                            {0x11B66, 0x11B66, U_GCB_EXTEND},
                                            {0x11B67, 0x11B67, U_GCB_SPACING_MARK},
                                            {0x11F41, 0x11F41, U_GCB_EXTEND},
                                            {0x11F5A, 0x11F5A, U_GCB_EXTEND},
                                            {0x1611E, 0x16129, U_GCB_EXTEND},
                                            {0x1612A, 0x1612C, U_GCB_SPACING_MARK},
                                            {0x1612D, 0x1612F, U_GCB_EXTEND},
                                            {0x16D63, 0x16D63, U_GCB_V},
                                            {0x16D67, 0x16D6A, U_GCB_V},
                                            {0x16FF0, 0x16FF1, U_GCB_EXTEND},
                                            {0x1D166, 0x1D166, U_GCB_EXTEND},
                                            {0x1D16D, 0x1D16D, U_GCB_EXTEND},
                                            {0x1E5EE, 0x1E5EF, U_GCB_EXTEND},
                                            {0x1E6E3, 0x1E6E3, U_GCB_EXTEND},
                                            {0x1E6E6, 0x1E6E6, U_GCB_EXTEND},
                                            {0x1E6EE, 0x1E6EF, U_GCB_EXTEND},
                                            {0x1E6F5, 0x1E6F5, U_GCB_EXTEND}};

// Assigned after Unicode 15 and not Extended_Pictographic, as unassigned code points around them are.
inline constexpr Range kNewPlainSymbols[] = {
    {0x1F777, 0x1F77A}, {0x1F8B2, 0x1F8BB}, {0x1F8C0, 0x1F8C1}, {0x1F8D0, 0x1F8D8}, {0x1FA54, 0x1FA57}};

// Indic_Conjunct_Break=Consonant.
inline constexpr Range kConjunctConsonants[] = {
    {0x915, 0x939},     {0x958, 0x95F},     {0x978, 0x97F},     {0x995, 0x9A8},     {0x9AA, 0x9B0},
    {0x9B2, 0x9B2},     {0x9B6, 0x9B9},     {0x9DC, 0x9DD},     {0x9DF, 0x9DF},     {0x9F0, 0x9F1},
    {0xA95, 0xAA8},     {0xAAA, 0xAB0},     {0xAB2, 0xAB3},     {0xAB5, 0xAB9},     {0xAF9, 0xAF9},
    {0xB15, 0xB28},     {0xB2A, 0xB30},     {0xB32, 0xB33},     {0xB35, 0xB39},     {0xB5C, 0xB5D},
    {0xB5F, 0xB5F},     {0xB71, 0xB71},     {0xC15, 0xC28},     {0xC2A, 0xC39},     {0xC58, 0xC5A},
    {0xD15, 0xD3A},     {0x1000, 0x102A},   {0x103F, 0x103F},   {0x1050, 0x1055},   {0x105A, 0x105D},
    {0x1061, 0x1061},   {0x1065, 0x1066},   {0x106E, 0x1070},   {0x1075, 0x1081},   {0x108E, 0x108E},
    {0x1780, 0x17B3},   {0x1A20, 0x1A54},   {0x1B0B, 0x1B0C},   {0x1B13, 0x1B33},   {0x1B45, 0x1B4C},
    {0x1B83, 0x1BA0},   {0x1BAE, 0x1BAF},   {0x1BBB, 0x1BBD},   {0xA989, 0xA98B},   {0xA98F, 0xA9B2},
    {0xA9E0, 0xA9E4},   {0xA9E7, 0xA9EF},   {0xA9FA, 0xA9FE},   {0xAA60, 0xAA6F},   {0xAA71, 0xAA73},
    {0xAA7A, 0xAA7A},   {0xAA7E, 0xAA7F},   {0xAAE0, 0xAAEA},   {0xABC0, 0xABDA},   {0x10A00, 0x10A00},
    {0x10A10, 0x10A13}, {0x10A15, 0x10A17}, {0x10A19, 0x10A35}, {0x11103, 0x11126}, {0x11144, 0x11144},
    {0x11147, 0x11147}, {0x11380, 0x11389}, {0x1138B, 0x1138B}, {0x1138E, 0x1138E}, {0x11390, 0x113B5},
    {0x11900, 0x11906}, {0x11909, 0x11909}, {0x1190C, 0x11913}, {0x11915, 0x11916}, {0x11918, 0x1192F},
    {0x11A00, 0x11A00}, {0x11A0B, 0x11A32}, {0x11A50, 0x11A50}, {0x11A5C, 0x11A83}, {0x11F04, 0x11F10},
    {0x11F12, 0x11F33}};

// Indic_Conjunct_Break=Linker.
inline constexpr char32_t kLinkers[] = {0x94D,   0x9CD,   0xACD,   0xB4D,   0xC4D,   0xD4D,  0x1039,
                                        0x17D2,  0x1A60,  0x1B44,  0x1BAB,  0xA9C0,  0xAAF6, 0x10A3F,
                                        0x11133, 0x113D0, 0x1193E, 0x11A47, 0x11A99, 0x11F42};

}  // namespace sagelab::unicode
