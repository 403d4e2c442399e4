/* with_sqlite CACHE_DIR: linked with the static library and the system's SQLite, and uses both at the same time. */
#include "exercise.h"

#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

static int rows_of_own_database(sqlite3 *database)
{
    sqlite3_stmt *query = NULL;
    int rows = -1;
    if (sqlite3_prepare_v2(database, "SELECT count(*) FROM own", -1, &query, NULL) == SQLITE_OK
        && sqlite3_step(query) == SQLITE_ROW)
        rows = sqlite3_column_int(query, 0);
    sqlite3_finalize(query);
    return rows;
}

int main(int argc, char **argv)
{
    char path[4096];
    sqlite3 *database = NULL;
    if (argc != 2)
        return 2;
    /* The program calls the system's SQLite that it was compiled with, not the library's. */
    if (strcmp(sqlite3_sourceid(), SQLITE_SOURCE_ID) != 0) {
        fprintf(stderr, "another SQLite was linked: %s\n", sqlite3_sourceid());
        return 1;
    }
    snprintf(path, sizeof path, "%s.own", argv[1]);
    if (sqlite3_open(path, &database) != SQLITE_OK
        || sqlite3_exec(database, "CREATE TABLE own (n); BEGIN; INSERT INTO own VALUES (1), (2)", NULL, NULL, NULL)
               != SQLITE_OK
        || exercise(argv[1]) != 0
        || sqlite3_exec(database, "INSERT INTO own VALUES (3); COMMIT", NULL, NULL, NULL) != SQLITE_OK
        || rows_of_own_database(database) != 3) {
        fprintf(stderr, "%s\n", sqlite3_errmsg(database));
        return 1;
    }
    return sqlite3_close(database) == SQLITE_OK ? 0 : 1;
}
