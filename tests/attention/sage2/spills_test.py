# SPDX-License-Identifier: Apache-2.0
"""spills_test.py OBJECT...: no kernel of these objects keeps registers in local memory, by what ptxas said when it made
them (OBJECT.ptxas, cmake/ptxas_log.sh)."""
import re
import sys

KERNEL = re.compile(r"Compiling entry function '(\w+)'")
FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
# What costs as much: registers not handed over, products that wait for each other, calls whose frames are not known.
REMARK = re.compile(r".*(?:setmaxnreg.* ignored|wgmma\.mma_async.* serialized|[Ss]tack size .* cannot be .* determined).*")


def complaints(log):
    """What is wrong in one log, and how many kernels it tells of."""
    found, kernels, function = REMARK.findall(log), 0, "?"
    for line in log.splitlines():
        if match := KERNEL.search(line):
            kernels += 1
        if match := re.search(r"Function properties for (\w+)", line):
            function = match[1]
        if (match := FRAME.search(line)) and any(int(bytes) for bytes in match.groups()):
            found.append(f"{function}: {line.strip()}")
    if len(FRAME.findall(log)) < kernels:
        found.append(f"{kernels} kernels, and frames of {len(FRAME.findall(log))}")
    return found, kernels


def check_itself():
    log = ("ptxas info    : Compiling entry function 'f' for 'sm_90a'\nptxas info    : Function properties for f\n"
           "    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n")
    assert complaints(log) == ([], 1)
    for number in ("0 bytes stack", "0 bytes spill stores", "0 bytes spill loads"):
        assert complaints(log.replace(number, "1" + number)) != ([], 1), number
    assert complaints(log.replace("bytes stack frame", "")) != ([], 1)
    assert complaints(log + "ptxas info : (C7508) Potential Performance Loss: 'setmaxnreg' ignored to maintain x\n")[0]
    assert complaints(log + "ptxas info : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized\n")[0]


def main(objects):
    check_itself()
    total, failed = 0, False
    for path in objects:
        with open(path + ".ptxas", encoding="utf-8") as file:
            found, kernels = complaints(file.read())
        total += kernels
        for complaint in found:
            print(f"{path}: {complaint}")
            failed = True
    print(f"{total} kernels in {len(objects)} objects")
    return 1 if failed or total == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
