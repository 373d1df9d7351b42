#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# ptxas_log.sh OBJECT COMMAND...: compiles, and keeps what that prints beside the object as well. ccache prints it again
# where it compiles nothing, so the log is always that of the object.
object=$1
shift
"$@" >"$object.ptxas" 2>&1
status=$?
cat "$object.ptxas" >&2
exit $status
