/* The tables of docs/configuration.md, written from the table of keys: the document cannot say
 * something else than the program does (tests/unit/config_document.c compares the two). */
#include "config/keys.h"
#include <stdio.h>

static bool put(struct buffer *out, const char *text)
{
    return buffer_append(out, text, strlen(text));
}

// A '|' would end the table's cell.
static bool put_cell(struct buffer *out, const char *text)
{
    for (; *text; text++)
        if (!(*text == '|' ? put(out, "\\|") : buffer_append(out, text, 1)))
            return false;
    return true;
}

static bool put_section_title(struct buffer *out, enum section_id s)
{
    char title[128];
    const struct config_section *row = &config_sections[s];
    if (s == SECTION_TOP)
        snprintf(title, sizeof(title), "## Top of the file\n\n");
    else if (row->parent != SECTION_TOP)
        snprintf(title, sizeof(title), "### %s %s{ %s %s{ } }\n\n",
                 config_sections[row->parent].name,
                 config_sections[row->parent].titled ? "\"NAME\" " : "", row->name,
                 row->titled ? "\"NAME\" " : "");
    else
        snprintf(title, sizeof(title), "## %s %s{ }\n\n", row->name,
                 row->titled ? "\"NAME\" " : "");
    return put(out, title) && put(out, row->doc) &&
           put(out, "\n\n| key | value | default | reload | meaning |\n|---|---|---|---|---|\n");
}

static const char *const reload_word[] = {
    [RELOAD_TAKES] = "yes", [RELOAD_CONNECTIONS] = "new connections", [RELOAD_RESTART] = "restart"};

static bool put_key(struct buffer *out, const struct config_key *k)
{
    char expects[200];
    config_key_expects(k, expects, sizeof(expects));
    return put(out, "| `") && put(out, k->name) && put(out, "` | ") && put_cell(out, expects) &&
           put(out, " | ") &&
           (k->standard ? put(out, "`") && put(out, k->standard) && put(out, "`")
                        : put(out, k->required ? "required" : "none")) &&
           put(out, " | ") && put(out, reload_word[k->reload]) && put(out, " | ") &&
           put_cell(out, k->doc) && put(out, " |\n");
}

bool config_key_document(struct buffer *out)
{
    for (enum section_id s = SECTION_TOP; s < SECTION_KINDS; s++) {
        if ((s != SECTION_TOP && !put(out, "\n")) || !put_section_title(out, s))
            return false;
        for (unsigned i = 0; i < config_key_count; i++)
            if (config_keys[i].section == s && !put_key(out, &config_keys[i]))
                return false;
    }
    return true;
}
