/* The program `tollgate`: everything else begins in cli_main. */
#include "master/cli.h"
#include "master/process_title.h"

int main(int argc, char **argv) {
    process_title_init(argc, argv);
    return cli_main(argc, argv);
}
