/* conf/conf_load.h - the steps of a load that the strict and the lenient reading share.
 * Used by: conf_load.c and conf_lenient.c only. Ownership: a reader's configuration belongs to whoever began it. */
#ifndef TOLLGATE_CONF_CONF_LOAD_H
#define TOLLGATE_CONF_CONF_LOAD_H

#include "conf/conf_reader.h"

/* Starts *findings for the file at path. */
void conf_findings_begin(struct conf_findings *findings, const char *path);

/* As conf_tree_parse; a text that is too large for a configuration is a finding. */
struct conf_node *conf_parse_tree(struct span text, struct arena *arena, struct conf_findings *findings);

/* Makes an empty configuration for the file at path, in reader->conf. */
void conf_reader_begin(struct conf_reader *reader, const char *path, struct conf_findings *findings);

/* Reads the whole tree into reader->conf. state_override as in conf_load. */
void conf_read_root(struct conf_reader *reader, const struct conf_node *root, const char *state_override);

/* Reads the file into text (to be released with conf_forget_text either way), or adds the finding and returns false. */
MUST_CHECK bool conf_load_text(const char *path, struct buffer *text, struct conf_findings *findings);

/* Wipes and frees a text that may hold secrets. */
void conf_forget_text(struct buffer *text);

#endif
