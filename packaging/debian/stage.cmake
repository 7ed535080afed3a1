# Before the package is packed: its configuration file, which lies outside the installation prefix, and modes of folders whatever
# the builder's umask is.
set(staged ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/etc/default)
file(MAKE_DIRECTORY ${staged})
file(COPY_FILE ${CMAKE_CURRENT_LIST_DIR}/rqlited.default ${staged}/rqlited)
file(CHMOD ${staged}/rqlited PERMISSIONS OWNER_READ OWNER_WRITE GROUP_READ WORLD_READ)
file(CHMOD_RECURSE ${CPACK_TEMPORARY_INSTALL_DIRECTORY} DIRECTORY_PERMISSIONS
     OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
