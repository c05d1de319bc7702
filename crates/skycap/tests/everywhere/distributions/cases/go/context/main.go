// Says hello, and leaves it in a file.
package main

import (
	"fmt"
	"os"
	"runtime"
)

func main() {
	said := fmt.Sprintf("compiled for %s/%s, run as %d\n", runtime.GOOS, runtime.GOARCH, os.Getuid())
	fmt.Print(said)
	if err := os.WriteFile(os.Args[1], []byte(said), 0o640); err != nil {
		panic(err)
	}
}
